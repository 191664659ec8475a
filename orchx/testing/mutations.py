"""Breaks the engine on purpose, to show that the simulator would notice.

Each mutation undoes one rule that orchx lives by (DESIGN 4 and 5) for as long as its
context lasts. Never used outside of tests.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, Final
from unittest.mock import patch

import msgspec

from orchx.domain import decide as decide_module
from orchx.domain import messages as m
from orchx.domain.events import Record
from orchx.domain.lineage import AcceptedRecords
from orchx.domain.state import Frame, WorkflowState
from orchx.domain.turn import Turn
from orchx.engine import dispatcher as dispatcher_module
from orchx.engine.activation import Activated, Activator
from orchx.engine.causes import Causes
from orchx.engine.live import Live
from orchx.engine.owner import Owner
from orchx.engine.owner_rules import ending_of
from orchx.ports.command_queue import Accepted
from orchx.testing.memory_command_queue import MemoryCommandQueue
from orchx.testing.memory_event_log import MemoryEventLog
from orchx.testing.simulated_loop import SimulatedClock
from orchx.testing.simulated_process import CURRENT

DELAY_S = 0.05


def _skip_the_epoch_check() -> Any:
    def judge(self: AcceptedRecords, record: Record) -> str:
        self.epoch, self.owner, self.seq = record.epoch, record.owner, record.seq
        return "accepted"

    return patch.object(AcceptedRecords, "judge", judge)


def _acknowledge_before_the_queue_has_it() -> Any:
    put = MemoryCommandQueue.put

    async def early(self: MemoryCommandQueue, commands: Sequence[m.AnyCommand]) -> Any:
        async def later() -> None:
            await asyncio.sleep(DELAY_S)
            await put(self, commands)

        _in_this_process(later())
        return [Accepted(command_id=command.id, duplicate=False) for command in commands]

    return patch.object(MemoryCommandQueue, "put", early)


def _acknowledge_before_the_append() -> Any:
    append = MemoryEventLog.append

    async def early(self: MemoryEventLog, records: Sequence[Record]) -> None:
        async def later() -> None:
            await asyncio.sleep(DELAY_S)
            await append(self, records)

        _in_this_process(later())

    return patch.object(MemoryEventLog, "append", early)


def _run_effects_before_the_append() -> Any:
    commit = Owner._commit

    async def early(self: Owner, turns: Sequence[tuple[Live, Turn]]) -> None:
        for live, turn in turns:
            ending = partial(ending_of, turn.state, epoch=live.epoch, told=live.watched)
            self._effects.run(turn.effects, ending)
        await commit(self, turns)

    return patch.object(Owner, "_commit", early)


def _drop_the_command_dedup() -> Any:
    take = decide_module._take

    def forgetful(turn: Turn, message: Any) -> None:
        turn.state.commands = set()
        take(turn, message)

    def keep(self: Owner, live: Live, assignment: Any) -> None:
        live.watched |= assignment.watched
        if assignment.command is not None and not isinstance(assignment.command, m.StartWorkflow):
            self._post(live, assignment.command)

    return _both(
        patch.object(decide_module, "_take", forgetful), patch.object(Owner, "_take", keep)
    )


def _new_key_for_every_retry() -> Any:
    key_of = Turn.key_of

    def fresh(self: Turn, frame: Frame) -> str:
        return f"{key_of(self, frame)}{frame.id}"

    return patch.object(Turn, "key_of", fresh)


def _forget_timers_on_take_over() -> Any:
    from_history = Activator._from_history

    async def forgetful(self: Activator, workflow_id: str, claimed: Any) -> Activated:
        activated = await from_history(self, workflow_id, claimed)
        for key, frame in activated.state.frames.items():
            activated.state.frames[key] = msgspec.structs.replace(
                frame, due_at_ms=None, timeout_at_ms=None
            )
        return activated

    return patch.object(Activator, "_from_history", forgetful)


def _never_send_lost_calls_again() -> Any:
    resume = decide_module._resume

    def once(turn: Turn, again: bool) -> None:
        resume(turn, False)

    async def blind(self: Owner, before_ms: int) -> None:
        """Find nothing."""

    return _both(
        patch.object(decide_module, "_resume", once),
        patch.object(Owner, "_find_lost_calls", blind),
    )


def _believe_a_fenced_owner() -> Any:
    async def blind(self: Owner, turns: Any) -> list[Live]:
        return []

    return patch.object(Owner, "_find_superseded", blind)


def _fire_timers_early() -> Any:
    due = WorkflowState.next_due_ms
    fire = decide_module._fire_timers

    def early(turn: Turn) -> None:
        turn.env.now_ms += 500  # type: ignore[misc]  # the environment's clock runs ahead
        fire(turn)
        decide_module.settle(turn)
        turn.env.now_ms -= 500  # type: ignore[misc]

    def sooner(self: WorkflowState) -> int | None:
        due_ms = due(self)
        return None if due_ms is None else due_ms - 500

    return _both(
        patch.object(decide_module, "_fire_timers", early),
        patch.object(WorkflowState, "next_due_ms", sooner),
    )


def _leave_children_to_the_owner() -> Any:
    async def blind(self: Causes, record: Record, child_id: str, before: Any) -> None:
        return None

    return patch.object(Causes, "_end_of", blind)


def _hand_no_event_on() -> Any:
    return patch.object(dispatcher_module, "relayed_commands", lambda command, partitions: [])


def _measure_on_the_wall() -> Any:
    return patch.object(SimulatedClock, "ticks_ms", SimulatedClock.now_ms)


MUTATIONS: Final[Mapping[str, Callable[[], Any]]] = {
    "skip-epoch-check": _skip_the_epoch_check,
    "ack-before-queue": _acknowledge_before_the_queue_has_it,
    "ack-before-append": _acknowledge_before_the_append,
    "effects-before-append": _run_effects_before_the_append,
    "no-command-dedup": _drop_the_command_dedup,
    "new-key-per-retry": _new_key_for_every_retry,
    "forget-timers": _forget_timers_on_take_over,
    "no-redispatch": _never_send_lost_calls_again,
    "believe-fenced-owner": _believe_a_fenced_owner,
    "early-timers": _fire_timers_early,
    "orphan-children": _leave_children_to_the_owner,
    "relay-nothing": _hand_no_event_on,
    "measure-on-the-wall": _measure_on_the_wall,
}


@contextmanager
def mutated(name: str | None) -> Iterator[None]:
    """Break the engine in one way while the context lasts (None: leave it alone)."""
    if name is None:
        yield
        return
    with MUTATIONS[name]():
        yield


@contextmanager
def _both(one: Any, other: Any) -> Iterator[None]:
    with one, other:
        yield


def _in_this_process(work: Any) -> None:
    process = CURRENT.get()
    if process is None:
        asyncio.get_running_loop().create_task(work)
    else:
        process.start(work)
