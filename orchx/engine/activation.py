"""Taking a workflow up: the claim, the history, and whether the claim won.

A claim appends `activated{epoch + 1}` and reads the log up to it. A new workflow's first
events travel in the claim itself, so that starting it costs one commit. Source: DESIGN 5.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import structlog

from orchx.domain import faults
from orchx.domain import messages as m
from orchx.domain.events import (
    TERMINAL_EVENTS,
    AnyEvent,
    DefinitionRef,
    Record,
    TaskCancelled,
    WorkflowActivated,
    WorkflowFaulted,
    WorkflowStarted,
)
from orchx.domain.evolve import apply
from orchx.domain.lineage import AcceptedRecords
from orchx.domain.state import WorkflowState
from orchx.domain.turn import Turn
from orchx.engine.decider import Decider, Offload
from orchx.engine.environment import World
from orchx.engine.live import Live
from orchx.engine.plans import Plan, Plans
from orchx.errors import CallerError, DriverError, Fenced, NotFound, TryLater
from orchx.ports.event_log import Claim, Claimed, EventLog

BUG = "an internal error; the owner's log has the details"

logger = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Activated:
    """A workflow that is owned now.

    `opening` is its first turn, durable already, if this claim started it. `live` is None for
    one that is over; `state` is what it ended as, in `epoch`.
    """

    state: WorkflowState
    epoch: int
    live: Live | None = None
    opening: Turn | None = None


class Activator:
    """Takes workflows up for one owner."""

    def __init__(
        self, incarnation: str, log: EventLog, plans: Plans, world: World, offload: Offload
    ) -> None:
        self._incarnation = incarnation
        self._log = log
        self._plans = plans
        self._world = world
        self._decider = Decider(world, offload)
        self._pinned: set[str] = set()

    async def start(self, command: m.StartWorkflow) -> Activated:
        """Start a workflow, or take it up if the log knows it already.

        Raises:
            Fenced: another owner claimed it at the same time and won.
            TryLater: the first turn cannot be decided now; nothing was started.
            StorageFull, DriverError: nothing was started, or it is unknown whether it was.
        """
        opening: Turn | None = None
        plan: Plan | None = None
        try:
            plan = await self._plans.published(
                command.namespace, command.name, command.version, command.digest
            )
        except CallerError as error:  # gone, or not readable by this release
            events = _cannot_start(command, str(error))
        else:
            opening = await self._open(command, plan)
            events = (
                opening.events
                if opening is not None
                else _cannot_start(command, BUG, faults.RUNTIME)
            )
        at_ms = opening.env.now_ms if opening is not None else self._world.now()
        pin = plan is not None and command.digest not in self._pinned
        claimed = await self._log.claim(
            Claim(
                workflow_id=command.workflow_id,
                owner=self._incarnation,
                at_ms=at_ms,
                opening=events,
                traceparent=command.traceparent,
                digest=command.digest if pin else None,
                definition=plan.source if pin and plan is not None else None,
            )
        )
        if not claimed.opened:
            if self._is_bare(claimed):
                claimed = await self._open_late(command, claimed, events, at_ms)
            return await self._from_history(command.workflow_id, claimed)
        if plan is None or opening is None:
            state = WorkflowState(command.workflow_id)
            for event in events:
                apply(state, event, at_ms)
            return Activated(state=state, epoch=claimed.epoch)
        self._pinned.add(command.digest)
        # the log has the activation before the opening: so must the state
        apply(opening.state, WorkflowActivated(), at_ms)
        live = Live(
            opening.state,
            plan,
            epoch=claimed.epoch,
            seq=len(events),
            traceparent=command.traceparent,
        )
        return Activated(state=opening.state, epoch=claimed.epoch, live=live, opening=opening)

    def _is_bare(self, claimed: Claimed) -> bool:
        """Return whether the claim is this owner's and nothing has ever begun.

        So it is after a claim whose opening got lost: its owner died in between.
        """
        reader = AcceptedRecords()
        counted = list(reader.of(claimed.history))
        mine = (reader.epoch, reader.owner) == (claimed.epoch, self._incarnation)
        return mine and all(type(record.event) is WorkflowActivated for record in counted)

    async def _open_late(
        self, command: m.StartWorkflow, claimed: Claimed, events: Sequence[AnyEvent], at_ms: int
    ) -> Claimed:
        """Append the opening behind the claim; every earlier one is fenced by it."""
        records = [
            Record(
                workflow_id=command.workflow_id,
                epoch=claimed.epoch,
                owner=self._incarnation,
                seq=seq,
                at_ms=at_ms,
                event=event,
                traceparent=command.traceparent,
            )
            for seq, event in enumerate(events, 1)
        ]
        await self._log.append(records)
        epochs = await self._log.epochs([command.workflow_id])
        if epochs.get(command.workflow_id, 0) > claimed.epoch:
            raise Fenced(f"{command.workflow_id}: claimed by another before it was opened")
        return replace(claimed, history=[*claimed.history, *records])

    async def _open(self, command: m.StartWorkflow, plan: Plan) -> Turn | None:
        """Return the first turn; None if deciding it failed, which is a bug of ours."""
        try:
            return await self._decider.open(command, plan.definition)
        except (TryLater, DriverError):  # nobody's fault: it is tried again
            raise
        except Exception:  # this actor's edge: a bug must end one workflow, visibly
            logger.exception("opening failed", workflow_id=command.workflow_id)
            return None

    async def take_up(self, workflow_id: str) -> Activated:
        """Take up a workflow that the log knows.

        Raises:
            Fenced: another owner claimed it at the same time and won.
            NotFound: the log does not know it, or not its plan.
            StorageFull, DriverError: the log failed.
        """
        known = await self._log.read(workflow_id)
        if not known:
            # a claim now would stand in the way of the start, which opens an empty history
            raise NotFound(f"the log has no start of workflow {workflow_id}")
        if isinstance(known[-1].event, TERMINAL_EVENTS):
            state, reader = WorkflowState(workflow_id), AcceptedRecords()
            for record in reader.of(known):
                apply(state, record.event, record.at_ms)
            if state.terminal:  # it is over: nobody needs to own it
                return Activated(state=state, epoch=reader.epoch)
        claim = Claim(workflow_id=workflow_id, owner=self._incarnation, at_ms=self._world.now())
        return await self._from_history(workflow_id, await self._log.claim(claim))

    async def _from_history(self, workflow_id: str, claimed: Claimed) -> Activated:
        reader = AcceptedRecords()
        state = WorkflowState(workflow_id)
        traceparent = None
        for record in reader.of(claimed.history):
            apply(state, record.event, record.at_ms)
            traceparent = record.traceparent or traceparent
        if (reader.epoch, reader.owner) != (claimed.epoch, self._incarnation):
            raise Fenced(f"{workflow_id}: epoch {claimed.epoch} belongs to {reader.owner}")
        if state.terminal:
            return Activated(state=state, epoch=claimed.epoch)
        if state.definition is None:
            raise NotFound(f"the log has no start of workflow {workflow_id}")
        try:
            plan = await self._plans.pinned(state.definition.digest)
        except CallerError as error:
            await self._end_without_plan(state, claimed.epoch, reader.seq, str(error))
            return Activated(state=state, epoch=claimed.epoch)
        live = Live(
            state,
            plan,
            epoch=claimed.epoch,
            seq=reader.seq,
            traceparent=traceparent,
        )
        return Activated(state=state, epoch=claimed.epoch, live=live)

    async def _end_without_plan(self, state: WorkflowState, epoch: int, seq: int, why: str) -> None:
        """End a workflow whose pinned plan this release cannot read: visibly, and for good."""
        now_ms = self._world.now()
        fault = faults.standard(faults.CONFIGURATION, "Plan cannot be read", detail=why[:1000])
        events: list[AnyEvent] = [
            TaskCancelled(
                frame=frame.id,
                reason="the workflow faulted",
                abandoned_child=frame.child.workflow_id,
            )
            for frame in state.awaiting_children()
            if frame.child is not None and frame.child.awaited
        ]
        events.append(WorkflowFaulted(error=fault))
        await self._log.append(
            [
                Record(
                    workflow_id=state.workflow_id,
                    epoch=epoch,
                    owner=self._incarnation,
                    seq=seq + number,
                    at_ms=now_ms,
                    event=event,
                )
                for number, event in enumerate(events, start=1)
            ]
        )
        for event in events:
            apply(state, event, now_ms)


def _cannot_start(
    command: m.StartWorkflow, why: str, kind: str = faults.CONFIGURATION
) -> list[AnyEvent]:
    """Return the whole life of a workflow that cannot begin: visible, and over."""
    definition = DefinitionRef(
        namespace=command.namespace,
        name=command.name,
        version=command.version,
        digest=command.digest,
    )
    return [
        WorkflowStarted(
            definition=definition,
            request=command.request,
            input=command.input,
            created_at_ms=command.created_at_ms,
        ),
        WorkflowFaulted(error=faults.standard(kind, "Cannot start", detail=why)),
    ]
