"""The engine as ingestion sees it: durable first, then quick. See `orchx.ports.gateway`."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType

import msgspec

from orchx.domain import messages as m
from orchx.domain.events import TERMINAL_EVENTS, Record, encode_event
from orchx.domain.lineage import AcceptedRecords
from orchx.engine.admission import Admission
from orchx.engine.endings import DispatcherMail
from orchx.engine.freshness import Barrier, Freshness
from orchx.engine.readiness import Question, ReadinessCheck
from orchx.errors import DriverError, NotFound, StorageFull, TryLater, Unavailable
from orchx.ports.catalog import Catalog
from orchx.ports.clock import Clock
from orchx.ports.command_queue import Accepted, CommandQueue
from orchx.ports.dead_letters import DeadLetters
from orchx.ports.deliveries import Deliveries
from orchx.ports.event_log import EventLog
from orchx.ports.gateway import AgedSummary, HistoryPage, Learn, Readiness, ignore
from orchx.ports.probe import Probe
from orchx.ports.state_store import TERMINAL, Filter, Page, StateStore, WorkflowSummary
from orchx.ports.supervision import Ending

MAX_RECENT = 20_000
READ_RECORDS = 200  # of the log at a time: values may be large
HISTORY_BYTES = 8 * 1_048_576  # of one page
RECHECK_S = 2.0
FOLLOW_INTERVAL_S = 0.1
HEARTBEAT_S = 10.0
STRONG_READ_S = 5.0
"""How long a strongly consistent read waits for the projection."""


class EngineGateway:
    """Implements `Gateway` on the ports.

    Args:
        mail: the way to the Dispatcher.
        barrier: returns when the projection holds all that is in a partition of the log now.
        projecting: returns if this engine's projection goes on.
        exposition: collects the metrics of all processes.
        partition_of: says in which partition of the log a workflow is.
        probes: further parts that have to work for a request to be taken.
        advisory: and what is told with them, though it need not.
    """

    def __init__(
        self,
        *,
        queue: CommandQueue,
        log: EventLog,
        store: StateStore,
        catalog: Catalog,
        deliveries: Deliveries,
        dead_letters: DeadLetters | None = None,
        mail: DispatcherMail,
        admission: Admission,
        clock: Clock,
        barrier: Barrier,
        projecting: Question,
        exposition: Callable[[], Awaitable[bytes]],
        partition_of: Callable[[str], int] = lambda _: 0,
        probes: Mapping[str, Probe] = MappingProxyType({}),
        advisory: Mapping[str, Probe] = MappingProxyType({}),
    ) -> None:
        self.catalog = catalog
        self.deliveries = deliveries
        self.dead_letters = dead_letters
        self._queue = queue
        self._log = log
        self._store = store
        self._mail = mail
        self._admission = admission
        self._clock = clock
        self._barrier = barrier
        self._exposition = exposition
        self._partition_of = partition_of
        self._freshness = Freshness(barrier, clock)
        self._recent: OrderedDict[str, m.StartWorkflow] = OrderedDict()
        self._readiness = ReadinessCheck(
            {
                "queue": queue.backlog,
                "log": log.last_offset,
                "projection": projecting,
                "dispatcher": lambda: mail.unknown(""),
                **{name: probe.check for name, probe in probes.items()},
            },
            clock,
            advisory={name: probe.check for name, probe in advisory.items()},
        )

    async def submit(self, commands: Sequence[m.AnyCommand]) -> Sequence[Accepted]:
        """Admit, make durable, hand over."""
        try:
            self._admit(commands)
        except TryLater:
            await self._mail.refresh()  # the backlog may have gone while nobody asked
            self._admit(commands)
        accepted = await self._queue.put(commands)
        fresh = [c for c, a in zip(commands, accepted, strict=True) if not a.duplicate]
        for command, one in zip(commands, accepted, strict=True):
            if one.duplicate:
                self._recent.pop(command.id, None)  # it may be over: to be looked up
            elif isinstance(command, m.StartWorkflow):
                # without its input: an end may be long in coming, and nobody asks for that
                self._recent[command.workflow_id] = msgspec.structs.replace(command, input=None)
        while len(self._recent) > MAX_RECENT:
            self._recent.popitem(last=False)
        if fresh:
            self._mail.offer(fresh)
        return accepted

    def _admit(self, commands: Sequence[m.AnyCommand]) -> None:
        by_tenant: dict[str, int] = {}
        deadlines_ms: list[int] = []
        for command in commands:
            if isinstance(command, m.StartWorkflow):
                tenant = command.request.tenant
                by_tenant[tenant] = by_tenant.get(tenant, 0) + 1
                if command.request.deadline_ms is not None:
                    deadlines_ms.append(command.request.deadline_ms)
        if by_tenant:
            self._admission.update(self._mail.load)
            self._admission.check(by_tenant, deadlines_ms, self._clock.now_ms())

    async def accepted(self, command_ids: Sequence[str]) -> Mapping[str, m.StartWorkflow]:
        """Look each up in the queue, which remembers what was applied for a while too."""
        found: dict[str, m.StartWorkflow] = {}
        for command_id in command_ids:
            command = await self._queue.find(command_id)
            if isinstance(command, m.StartWorkflow):
                found[command_id] = command
                self._recent.pop(command_id, None)  # it may be over: to be looked up
        return found

    async def wait(self, workflow_id: str, timeout_s: float) -> WorkflowSummary | None:
        """Wait for the end: told by the Dispatcher, and looked up now and then in case not."""
        known = self._recent.get(workflow_id)
        if known is None:
            found = await self.show(workflow_id)
            if found.status in TERMINAL:
                return found
        try:
            async with asyncio.timeout(timeout_s):
                summary = await self._end(workflow_id, known, timeout_s)
        except TimeoutError:
            return None
        if not self._mail.expects(workflow_id):
            self._forget_ended(summary)
        return summary

    def _forget_ended(self, summary: WorkflowSummary) -> None:
        if summary.status in TERMINAL:
            self._recent.pop(summary.workflow_id, None)

    async def _end(
        self, workflow_id: str, known: m.StartWorkflow | None, timeout_s: float
    ) -> WorkflowSummary:
        future = self._mail.expect(workflow_id)
        # The caller's limit once more: a driver may swallow the cancellation that keeps it.
        until_s = asyncio.get_running_loop().time() + timeout_s
        try:
            while not (await asyncio.wait((future,), timeout=RECHECK_S))[0]:
                if asyncio.get_running_loop().time() > until_s:
                    raise TimeoutError
                found = await self._looked_up(workflow_id)
                if found is not None:
                    return found
        finally:
            self._mail.forget(workflow_id, future)
        ending = future.result()
        if known is not None and ending.told:
            return ended(known, ending)
        await self._barrier(self._partition_of(workflow_id))
        return await self.show(workflow_id)

    async def _looked_up(self, workflow_id: str) -> WorkflowSummary | None:
        """Return what has ended; None: it has not, or whether it has cannot be told now."""
        try:
            async with asyncio.timeout(RECHECK_S):  # the Dispatcher may tell before
                await self._barrier(self._partition_of(workflow_id))
                found = (await self._store.load([workflow_id])).get(workflow_id)
        except (TimeoutError, TryLater, DriverError):  # `ready` says why
            return None
        return found if found is not None and found.status in TERMINAL else None

    async def show(self, workflow_id: str) -> WorkflowSummary:
        """Return the projection's row; an accepted start that it lacks is pending."""
        found = (await self._store.load([workflow_id])).get(workflow_id)
        if found is not None:
            self._forget_ended(found)
            return found
        start = await self._start_of(workflow_id)
        if start is None:
            await self._barrier(self._partition_of(workflow_id))
            found = (await self._store.load([workflow_id])).get(workflow_id)
            if found is None:
                raise NotFound(f"there is no workflow {workflow_id}")
            return found
        return pending(start)

    async def show_aged(self, workflow_id: str, *, strong: bool = False) -> AgedSummary:
        """Return the summary and its age; a strong read waits for the projection first."""
        partition = self._partition_of(workflow_id)
        if strong:
            return AgedSummary(summary=await self._show_latest(workflow_id, partition), age_ms=0)
        as_of_ms = await self._freshness.as_of_ms(partition)
        found = await self.show(workflow_id)
        if found.status in TERMINAL:  # nothing comes after that
            return AgedSummary(summary=found, age_ms=0)
        age_ms = None if as_of_ms is None else max(0, self._clock.ticks_ms() - as_of_ms)
        return AgedSummary(summary=found, age_ms=age_ms)

    async def _show_latest(self, workflow_id: str, partition: int) -> WorkflowSummary:
        """Return what is true of all that was durable at the call, or fail."""
        try:
            async with asyncio.timeout(STRONG_READ_S):
                await self._barrier(partition)
                found = (await self._store.load([workflow_id])).get(workflow_id)
                start = None if found is not None else await self._start_of(workflow_id)
        except TimeoutError as error:
            raise _not_strong(f"not all is projected after {STRONG_READ_S:g} s") from error
        except (TryLater, DriverError, StorageFull) as error:
            raise _not_strong(str(error)) from error
        if found is not None:
            self._forget_ended(found)
            return found
        if start is None:
            raise NotFound(f"there is no workflow {workflow_id}")
        return pending(start)

    async def _start_of(self, workflow_id: str) -> m.StartWorkflow | None:
        start: m.AnyCommand | None = self._recent.get(workflow_id)
        if start is None:
            start = await self._queue.find(workflow_id)
        return start if isinstance(start, m.StartWorkflow) else None

    async def list(self, filter_: Filter) -> Page:
        """Return one page of workflows, newest first."""
        return await self._store.list(filter_)

    async def history(
        self, workflow_id: str, *, after_offset: int = 0, limit: int = 1000, learn: Learn = ignore
    ) -> HistoryPage:
        """Return the records that count, read from the first on: a later one may void none."""
        reader, offset, size = AcceptedRecords(), 0, 0
        found: list[Record] = []
        while read := await self._log.read(workflow_id, after_offset=offset, limit=READ_RECORDS):
            accepted = list(reader.of(read))
            learn([record for record in accepted if record.offset <= after_offset])
            for record in accepted:
                if record.offset <= after_offset:
                    continue
                size += len(encode_event(record.event))
                if found and (len(found) == limit or size > HISTORY_BYTES):
                    return HistoryPage(records=found, more=True)
                found.append(record)
            offset = read[-1].offset
        if not offset:
            await self.show(workflow_id)
        return HistoryPage(records=found, more=False)

    async def follow(
        self, workflow_id: str, *, after_offset: int = 0
    ) -> AsyncIterator[Record | None]:
        """Yield records as they become durable, and None as a heartbeat."""
        await self.show(workflow_id)
        reader, offset, silent_s = AcceptedRecords(), 0, 0.0
        while True:
            records = await self._log.read(workflow_id, after_offset=offset, limit=READ_RECORDS)
            for record in records:
                offset = record.offset
                if not reader.accepts(record) or offset <= after_offset:
                    continue
                yield record
                if isinstance(record.event, TERMINAL_EVENTS):
                    return
            if records:
                silent_s = 0.0
                continue  # there may be more already
            silent_s += FOLLOW_INTERVAL_S
            if silent_s >= HEARTBEAT_S:
                silent_s = 0.0
                yield None
            await self._clock.sleep(FOLLOW_INTERVAL_S)

    async def ready(self) -> Readiness:
        """Ask each part, within a limit, and no more often than once a second."""
        return await self._readiness.ready()

    async def metrics(self) -> bytes:
        """Return the exposition of all processes."""
        return await self._exposition()


def _not_strong(why: str) -> Unavailable:
    return Unavailable(f"no strongly consistent read is possible now: {why}")


def pending(start: m.StartWorkflow) -> WorkflowSummary:
    """Return what can be said of a workflow that was accepted and has not begun."""
    return WorkflowSummary(
        workflow_id=start.workflow_id,
        status="pending",
        namespace=start.namespace,
        name=start.name,
        version=start.version,
        tenant=start.request.tenant,
        type=start.request.type,
        priority=start.request.priority,
        deadline_ms=start.request.deadline_ms,
        created_at_ms=start.created_at_ms,
        updated_at_ms=start.created_at_ms,
        correlation_id=start.request.correlation_id,
        labels=start.request.labels,
        traceparent=start.traceparent,
    )


def ended(start: m.StartWorkflow, ending: Ending) -> WorkflowSummary:
    """Return the summary of a workflow from its two ends, before the projection has it."""
    return replace(
        pending(start),
        status=ending.status,
        updated_at_ms=ending.ended_at_ms,
        ended_at_ms=ending.ended_at_ms,
        epoch=ending.epoch,
        task=ending.task,
        tasks_completed=ending.tasks_completed,
        tasks_faulted=ending.tasks_faulted,
        retries=ending.retries,
        output=ending.output,
        error=None if ending.error is None else ending.error.as_json(),
    )
