"""Turns for the mail of workflows: on the event loop if they are short, else in a thread.

The loop also renews the lease and answers the watchdog, so no turn may keep it for long. One
that has gone on for `MAX_TURN_S` ends, and another goes on. One that would wait for a child
process, or that a single step keeps from ending, is dropped and made again in a thread. Turns
are drafts: one that is dropped before its append leaves no trace.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Protocol, TypeVar

import structlog

from orchx.domain import messages as m
from orchx.domain.decide import decide, fault_workflow, open_workflow
from orchx.domain.document import Definition
from orchx.domain.faults import RUNTIME, standard
from orchx.domain.state import WorkflowState
from orchx.domain.turn import MAX_BYTES_PER_TURN, Turn
from orchx.engine.environment import MAX_TURN_S, TurnEnvironment, World
from orchx.engine.live import Live
from orchx.engine.loop_share import LoopShare
from orchx.errors import DriverError, TryLater
from orchx.ports.evaluator import WouldBlock

T = TypeVar("T")

logger = structlog.get_logger(__name__)


class Offload(Protocol):
    """Runs a function that may take long (limited expressions) away from the event loop."""

    def __call__(self, function: Callable[[], T]) -> Awaitable[T]:
        """Return what the function returns."""
        ...


class Decider:
    """Makes turns. Nothing that it returns is known to anyone before it is appended.

    Args:
        world: what decisions may ask.
        offload: runs a function in a thread.
    """

    def __init__(self, world: World, offload: Offload) -> None:
        self.share = LoopShare(world)
        self._world = world
        self._offload = offload

    async def open(self, command: m.StartWorkflow, definition: Definition) -> Turn:
        """Return a workflow's first turn.

        Raises:
            TryLater, DriverError: it cannot be decided now; nothing is wrong with it.
        """
        if not definition.needs_sandbox:
            await self.share.wait()
            try:
                return self._open(command, definition, may_block=False)
            except WouldBlock:
                pass
        return await self._offload(partial(self._open, command, definition, may_block=True))

    def here(self, live: Live) -> list[Turn]:
        """Return turns that the loop has time for.

        If the next one takes longer, it is left to `away`, where this workflow's turns are
        made from now on.

        Raises:
            TryLater, DriverError: they cannot be made now, and the mail that they were for is
                gone; nothing is wrong with the workflow.
        """
        turns: list[Turn] = []
        try:
            self._drain(live, turns, may_block=False)
        except WouldBlock:
            live.away = True
        return turns

    async def away(self, live: Live) -> list[Turn]:
        """Return turns that a thread has made.

        Raises:
            TryLater, DriverError: as above.
        """
        turns: list[Turn] = []
        await self._offload(partial(self._drain, live, turns, may_block=True))
        return turns

    def _open(self, command: m.StartWorkflow, definition: Definition, *, may_block: bool) -> Turn:
        env = TurnEnvironment(self._world, command.traceparent, may_block=may_block)
        return open_workflow(command, definition, env)

    def _drain(self, live: Live, turns: list[Turn], *, may_block: bool) -> None:
        """Make a turn per message in the mailbox, each on the state that the last one left.

        Together they are about as large as one turn may be, and take about as long: what is
        left waits for the next round.
        """
        state = live.state
        until_bytes = state.bytes + MAX_BYTES_PER_TURN
        until_s = self._world.ticks_s() + MAX_TURN_S
        while live.mailbox and state.bytes < until_bytes:
            if turns and self._world.ticks_s() >= until_s:
                break
            env = TurnEnvironment(
                self._world, live.traceparent, may_block=may_block, until_s=until_s
            )
            turn = _turn(live, state, live.mailbox[0], env)
            live.taken.append(live.mailbox.popleft())
            state = turn.state
            turns.append(turn)
            if turn.unsettled:
                live.mailbox.appendleft(m.Resume(again=False))
                break


def _turn(live: Live, state: WorkflowState, message: m.Message, env: TurnEnvironment) -> Turn:
    try:
        return decide(state, live.plan.definition, message, env)
    except (WouldBlock, TryLater, DriverError):  # another time, or elsewhere
        raise
    except Exception as error:  # an actor's edge: a bug must end one workflow, visibly
        logger.exception("decision failed", workflow_id=live.workflow_id)
        turn = Turn(state, live.plan.definition, env)
        detail = f"{type(error).__name__}: {error}"
        fault_workflow(turn, standard(RUNTIME, "Internal error", detail=detail))
        return turn
