"""A Dispatcher with everything around it in memory, and owners that do as a test says."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Coroutine, Sequence
from typing import Any, Literal, NoReturn, TypeVar

from orchx.domain import messages as m
from orchx.domain.events import ParentRef, Request
from orchx.engine.dispatcher import Dispatcher
from orchx.engine.placement import Isolation, Station, Stations
from orchx.engine.roster import Roster
from orchx.engine.routing import Resolver
from orchx.engine.supervision import Supervision
from orchx.errors import OrchxError, Unavailable
from orchx.ports.catalog import StoredDefinition
from orchx.ports.membership import PartitionHolder
from orchx.ports.state_store import WorkflowSummary
from orchx.ports.supervision import Assignment, Ending, OwnerReport, OwnerStatus
from orchx.settings import OwnerSettings, SweepSettings
from orchx.testing.memory_catalog import MemoryCatalog
from orchx.testing.memory_command_queue import MemoryCommandQueue
from orchx.testing.memory_event_log import MemoryEventLog
from orchx.testing.memory_state_store import MemoryStateStore
from orchx.testing.virtual_clock import VirtualClock
from tests import summaries

T = TypeVar("T")

LEASE_S = 10.0
SWEEP_S = 1.0


class FakeOwner:
    """An owner as the Dispatcher reaches it: remembers what it gets, says what it holds.

    `away`: it gets nothing and answers nothing. `deaf`: what is delivered to it gets lost. What
    it is asked it answers once `answers` is set.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.incarnation = f"{name}#1"
        self.deliveries: list[list[Assignment]] = []
        self.holds: set[str] = set()
        self.released: list[list[str]] = []
        self.asked = 0
        self.away = False
        self.deaf = False
        self.answers = asyncio.Event()
        self.answers.set()

    def deliver(self, assignments: Sequence[Assignment]) -> None:
        if not self.away and not self.deaf:
            self.deliveries.append(list(assignments))
            self.holds |= {assignment.workflow_id for assignment in assignments}

    async def reconcile(self, expected: Sequence[str]) -> OwnerStatus:
        self.asked += 1
        if self.away:
            raise Unavailable(f"{self.name} is away")
        await self.answers.wait()
        return OwnerStatus(
            incarnation=self.incarnation,
            unknown=[key for key in expected if key not in self.holds],
            live=len(self.holds),
            unexpected=sorted(self.holds - set(expected)),
        )

    async def release(self, workflow_ids: Sequence[str]) -> None:
        if self.away:
            raise Unavailable(f"{self.name} is away")
        self.released.append(sorted(workflow_ids))
        self.holds.difference_update(workflow_ids)

    def restart(self) -> None:
        """Come back as another process, which holds nothing."""
        self.incarnation += "+1"
        self.holds.clear()
        self.deliveries.clear()

    @property
    def got(self) -> list[str]:
        """The workflows that were delivered, in order."""
        return [a.workflow_id for delivery in self.deliveries for a in delivery]

    @property
    def commands(self) -> list[str]:
        """The ids of the commands that were delivered, in order; empty: the workflow alone."""
        found = [a.command for delivery in self.deliveries for a in delivery]
        return [command.id if command is not None else "" for command in found]


class FakeMembership:
    """Says which partition is whose: by the number that a workflow's id ends with, else 0."""

    def __init__(self, count: int) -> None:
        self.count = count

    async def run(self, holder: PartitionHolder) -> NoReturn:
        raise AssertionError("a test gives and takes partitions by itself")

    async def joined(self) -> None:
        raise AssertionError("likewise")

    async def leave(self) -> None:
        raise AssertionError("likewise")

    def partition_of(self, command: m.AnyCommand) -> int:
        if isinstance(command, m.DeliverEvent) and command.partition is not None:
            return command.partition
        return self.partition_of_workflow(command.workflow_id)

    def partition_of_workflow(self, workflow_id: str) -> int:
        number = workflow_id.rpartition("-")[2]
        return int(number) % self.count if number.isdigit() else 0


class FakeStateService:
    """The projector as the Dispatcher reaches it.

    `errors` are raised once each; `hangs`: no question is ever answered.
    """

    def __init__(self) -> None:
        self.errors: list[OrchxError] = []
        self.hangs = False
        self.served: list[int] = []

    def serve(self, partitions: Collection[int]) -> None:
        self.served = sorted(partitions)

    async def barrier(self, partitions: Collection[int]) -> None:
        if self.errors:
            raise self.errors.pop(0)
        if self.hangs:
            await asyncio.Event().wait()


class Desk:
    """A Dispatcher and its Supervision over memory adapters, with a clock that a test moves.

    Args:
        shared, dedicated: how many owners there are: `owner-1`, ..., `lone-1`, ...
        capacity: what a shared one takes.
        running_limit: how many workflows may run.
        memory_bytes: how much of commands is kept in memory.
        met: whether it has begun: the owners have said who they are, and it serves everything.
        partitions: how many there are.
    """

    def __init__(
        self,
        *,
        shared: int = 1,
        dedicated: int = 0,
        capacity: int = 10,
        running_limit: int = 100,
        memory_bytes: int = 1_000_000,
        met: bool = True,
        partitions: int = 1,
    ) -> None:
        self.clock = VirtualClock()
        # the roster sets its timers with the loop, which this test has to itself
        loop = asyncio.get_running_loop()
        loop.call_later = self._call_later  # type: ignore[assignment,method-assign]
        self.failing: dict[str, OrchxError] = {}  # what stores raise, by point of the operation
        self.state = FakeStateService()
        self.queue = MemoryCommandQueue(self._on_io)
        self.store = MemoryStateStore()
        self.catalog = MemoryCatalog()
        names = [f"owner-{n + 1}" for n in range(shared)] + [
            f"lone-{n + 1}" for n in range(dedicated)
        ]
        self.owners = {name: FakeOwner(name) for name in names}
        stations = [self._station(owner, capacity, met=met) for owner in self.owners.values()]
        self.roster = Roster(
            Stations(stations),
            self.queue,
            self.clock,
            running_limit=running_limit,
            memory_bytes=memory_bytes,
        )
        self.dispatcher = Dispatcher(
            queue=self.queue,
            roster=self.roster,
            resolver=Resolver(self.catalog, self.queue, MemoryEventLog()),
            clock=self.clock,
            membership=FakeMembership(partitions),
        )
        if met:
            self.dispatcher.serve(range(partitions))
        self.supervision = Supervision(
            self.dispatcher,
            queue=self.queue,
            store=self.store,
            state=self.state,
            clock=self.clock,
            owners=OwnerSettings(lease_ms=int(LEASE_S * 1000)),
            sweep=SweepSettings(interval_ms=int(SWEEP_S * 1000)),
        )
        self._offset = 0
        self._timers: set[asyncio.Task[None]] = set()

    # -- what a test does --------------------------------------------------------------------

    async def pass_s(self, delay_s: float = 0.0) -> None:
        """Let time pass, and everything that can run do so."""
        await self.clock.advance(delay_s)

    def begin(self, work: Coroutine[None, None, T]) -> asyncio.Task[T]:
        """Have something run beside the test, which sees by the task whether it has failed."""
        task = asyncio.get_running_loop().create_task(work)
        task.add_done_callback(lambda done: done.cancelled() or done.exception())
        return task

    async def recover(self) -> None:
        """Have everything taken, as at the start."""
        await self.supervision.take(range(self.dispatcher.membership.count))

    async def submit(self, *commands: m.AnyCommand) -> None:
        """Make commands durable and offer them, as ingestion does."""
        await self.queue.put(commands)
        self.dispatcher.offer(commands)
        await self.pass_s()

    async def report(self, owner: str, **news: Any) -> None:
        """Have an owner report."""
        incarnation = self.owners[owner].incarnation
        self.dispatcher.report(OwnerReport(owner=owner, incarnation=incarnation, **news))
        await self.pass_s()

    async def project(self, *summaries: WorkflowSummary) -> None:
        """Have the projection show workflows."""
        self._offset += 1
        await self.store.save(summaries, offset=self._offset)

    async def publish(self, name: str, digest: str) -> None:
        """Put a definition `t/<name>:1.0.0` into the catalog."""
        await self.catalog.publish(definition(name, digest))

    # -- what a test looks at ----------------------------------------------------------------

    def owner_of(self, workflow_id: str) -> str | None:
        """Return where a workflow is placed; None: nowhere."""
        return self.roster.entries[workflow_id].owner

    async def pending(self) -> list[str]:
        """Return the ids of the commands that are not acknowledged."""
        return [c.id for _, c in await self.queue.pending(after_position=0, limit=1_000)]

    # -- what stands around ------------------------------------------------------------------

    def _station(self, owner: FakeOwner, capacity: int, *, met: bool) -> Station:
        dedicated = owner.name.startswith("lone")
        return Station(
            link=owner,
            capacity=1 if dedicated else capacity,
            dedicated=dedicated,
            incarnation=owner.incarnation if met else "",
            last_contact_ms=self.clock.ticks_ms(),
        )

    def _call_later(self, delay_s: float, callback: Callable[[], object]) -> asyncio.Task[None]:
        async def call() -> None:
            await self.clock.sleep(delay_s)
            callback()

        task = asyncio.get_running_loop().create_task(call())
        self._timers.add(task)
        task.add_done_callback(self._timers.discard)
        return task

    async def _on_io(self, point: str) -> None:
        if point in self.failing:
            raise self.failing[point]
        await asyncio.sleep(0)


def start(
    workflow_id: str,
    *,
    name: str = "w",
    digest: str = "digest",
    tenant: str = "acme",
    priority: int = 5,
    deadline_ms: int | None = None,
    isolation: Isolation = "shared",
    parent: ParentRef | None = None,
) -> m.StartWorkflow:
    return m.StartWorkflow(
        id=workflow_id,
        workflow_id=workflow_id,
        created_at_ms=1,
        namespace="t",
        name=name,
        version="1.0.0",
        digest=digest,
        input=None,
        request=Request(
            tenant=tenant,
            priority=priority,
            deadline_ms=deadline_ms,
            isolation=isolation,
            parent=parent,
        ),
    )


def cancel(command_id: str, workflow_id: str) -> m.CancelWorkflow:
    return m.CancelWorkflow(id=command_id, workflow_id=workflow_id, created_at_ms=1)


def event(command_id: str, workflow_id: str = "", *, kind: str = "hr.moved") -> m.DeliverEvent:
    """Return an event for one workflow, or for all that listen."""
    content = {"id": command_id, "source": "/test", "type": kind}
    return m.DeliverEvent(id=command_id, workflow_id=workflow_id, created_at_ms=1, event=content)


def ending(
    workflow_id: str, status: Literal["completed", "faulted", "cancelled"] = "completed"
) -> Ending:
    return Ending(workflow_id=workflow_id, status=status, ended_at_ms=9)


def summary(workflow_id: str, **changes: Any) -> WorkflowSummary:
    """Return what the projection shows of a running workflow, with what a test cares about."""
    return summaries.summary(workflow_id, 1, **{"isolation": "shared", **changes})


def definition(name: str, digest: str) -> StoredDefinition:
    return StoredDefinition(
        namespace="t",
        name=name,
        version="1.0.0",
        digest=digest,
        source=b"{}",
        text="",
        created_at_ms=1,
    )
