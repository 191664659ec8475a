"""Runs calls with bounded concurrency, keeps every service's limits, pushes outcomes.

One event loop, no locks. A call costs one asyncio task and, where it has no limits, no
queue: it starts in `submit`. Whatever else happens to an execution, its owner gets
exactly one outcome per dispatch, unless it was abandoned or the pool closed. Times in
here are the clock's ticks.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Sequence
from typing import Final

import msgspec

from orchx.domain.faults import Fault
from orchx.domain.messages import TaskOutcome, TaskRequest
from orchx.domain.services import Service
from orchx.engine import call_timeouts
from orchx.engine.alarm_wheel import AlarmWheel
from orchx.engine.outcome_batches import OutcomeBatches
from orchx.engine.pool_entry import EntryState, PoolEntry
from orchx.engine.pool_queues import PoolQueues
from orchx.engine.pool_views import PoolStats, QueueView, RunningView
from orchx.engine.recent_results import RecentResults
from orchx.engine.service_gate import ServiceGate
from orchx.ports.clock import Clock
from orchx.ports.task_pool import OutcomeSink, TaskRunner
from orchx.settings import PoolSettings

CLOSE_WAIT_S: Final = 1.0

_log = logging.getLogger(__name__)


class TaskPool:
    """The pool of one event loop.

    Args:
        runner: makes the calls.
        sink: takes the outcomes, in batches per owner and turn of the loop.
        clock: tells the time; deadlines and limits follow it.
        settings: concurrency, queue limit, default timeout, recent results.
        services: the services with limits; calls to no service have none but the pool's.
        timeout_of: a function's own timeout in milliseconds, if it has one.
    """

    def __init__(
        self,
        runner: TaskRunner,
        sink: OutcomeSink,
        clock: Clock,
        settings: PoolSettings,
        services: Iterable[Service] = (),
        timeout_of: call_timeouts.TimeoutOf = call_timeouts.no_timeout,
    ) -> None:
        self.stats = PoolStats()
        self._runner = runner
        self._clock = clock
        self._settings = settings
        self._timeout_of = timeout_of
        self._batches = OutcomeBatches(sink)
        self._recent = RecentResults(settings.recent_results)
        self._wheel: AlarmWheel[PoolEntry | ServiceGate] = AlarmWheel(clock, self._ring)
        self._queues = PoolQueues(self._wheel.set, self._refuse_open)
        self._entries: dict[str, PoolEntry] = {}  # queued and running, by execution
        self._overdue: set[PoolEntry] = set()  # cut or abandoned, but not ended yet
        self._free = settings.io_concurrency
        self._number = 0
        self._idle: asyncio.Future[None] | None = None
        self._is_draining = False
        self.update_services(services)

    # --- what an owner asks -------------------------------------------------------------

    def submit(self, requests: Sequence[TaskRequest]) -> None:
        """Take a batch. Never blocks; what cannot be taken gets its outcome at once."""
        now_ms = self._clock.ticks_ms()
        # With room for all of them their order does not matter, and nothing needs to queue.
        is_roomy = len(requests) <= self._free
        self.stats.submitted += len(requests)
        for request in requests:
            execution = request.execution
            known = self._entries.get(execution)
            if known is not None:
                known.owner = request.owner
                self.stats.joined += 1
                continue
            stored = self._recent.get(execution, now_ms)
            if stored is not None:
                self.stats.repeated += 1
                self._batches.add(request.owner, stored)
                continue
            gate = self._queues.gate(request.call.service)
            self._number += 1
            entry = PoolEntry(request, execution, gate, self._number, now_ms)
            if request.deadline_at_ms is not None:
                entry.deadline_ms = now_ms + request.deadline_at_ms - self._clock.now_ms()
            if is_roomy and gate is None and not self._is_draining:
                self._entries[execution] = entry
                self._start(entry, now_ms)
            else:
                self._admit(entry, now_ms)
        self._pump(now_ms)

    def abandon(self, executions: Sequence[str]) -> None:
        """Stop what nobody waits for any more; it gets no outcome."""
        now_ms = self._clock.ticks_ms()
        for execution in executions:
            entry = self._entries.get(execution)
            if entry is None:
                continue
            self.stats.abandoned += 1
            if entry.state is EntryState.QUEUED:
                self._queues.remove(entry)
                self._leave(entry)
            else:
                self._judge(entry, None, now_ms)
                self._cut(entry, now_ms)
        self._pump(now_ms)

    def unknown(self, executions: Sequence[str]) -> list[str]:
        """Return those that are neither queued nor running: send them again.

        Whoever asks has no outcome yet. That of a recent one was lost on its way, and sending
        the call again brings it from memory.
        """
        return [execution for execution in executions if execution not in self._entries]

    def heartbeat(self, execution: str) -> None:
        """Note that a running execution is alive. Safe to call from any thread."""
        entry = self._entries.get(execution)
        if entry is not None:
            entry.heartbeat_ms = self._clock.ticks_ms()

    # --- what an operator asks ----------------------------------------------------------

    def update_services(self, services: Iterable[Service]) -> None:
        """Take the catalog's services; queues and running calls stay.

        A service that is gone keeps its limits until its last call has ended.
        """
        now_ms = self._clock.ticks_ms()
        for gate in self._queues.update_services(services, now_ms):
            self._wheel.clear(gate)
        self._pump(now_ms)

    def pause(self, service: str) -> bool:
        """Let no further call of a service begin; False if there is no such service."""
        gate = self._queues.gate(service)
        if gate is not None:
            gate.is_paused = True
        return gate is not None

    def resume(self, service: str) -> bool:
        """Undo `pause`; False if there is no such service."""
        gate = self._queues.gate(service)
        if gate is None:
            return False
        gate.is_paused = False
        self._queues.wake(gate)
        self._pump(self._clock.ticks_ms())
        return True

    def queues(self) -> list[QueueView]:
        """Describe every queue: the services' by name, then that of all other calls."""
        now_ms = self._clock.ticks_ms()
        running = sum(
            entry.gate is None and entry.state is not EntryState.QUEUED
            for entry in [*self._entries.values(), *self._overdue]
        )
        return self._queues.views(
            now_ms, plain_running=running, concurrency=self._settings.io_concurrency
        )

    def running(self) -> list[RunningView]:
        """Describe what runs, the oldest first."""
        wall_ms = self._clock.now_ms() - self._clock.ticks_ms()
        return [
            RunningView(
                execution=entry.execution,
                reference=entry.request.reference,
                function=entry.request.call.function,
                service=entry.request.call.service,
                owner=entry.owner,
                attempt=entry.request.attempt,
                started_ms=wall_ms + entry.started_ms,
                heartbeat_ms=None if entry.heartbeat_ms is None else wall_ms + entry.heartbeat_ms,
            )
            for entry in sorted(self._entries.values(), key=lambda entry: entry.started_ms)
            if entry.state is EntryState.RUNNING
        ]

    async def drain(self, timeout_s: float) -> bool:
        """Refuse what comes, let what is here end; False if `timeout_s` was too short."""
        self._is_draining = True
        if self._entries:
            self._idle = asyncio.get_running_loop().create_future()
            nap = asyncio.ensure_future(self._clock.sleep(timeout_s))
            try:
                await asyncio.wait((self._idle, nap), return_when=asyncio.FIRST_COMPLETED)
            finally:
                nap.cancel()
                self._idle = None
        self._batches.flush()
        return not self._entries

    async def close(self) -> None:
        """Cut everything. What had no outcome gets none; outcomes under way are pushed."""
        self._is_draining = True
        entries = [*self._entries.values(), *self._overdue]
        tasks = [entry.task for entry in entries if entry.task is not None]
        for entry in entries:
            entry.state = EntryState.GONE
        self._entries.clear()
        self._overdue.clear()
        for task in tasks:
            task.cancel()
        self._wheel.close()
        self._batches.flush()
        if tasks:
            await asyncio.wait(tasks, timeout=CLOSE_WAIT_S)

    # --- queueing -----------------------------------------------------------------------

    def _admit(self, entry: PoolEntry, now_ms: int) -> None:
        """Queue an execution, or say at once why not."""
        gate = entry.gate
        refused: Fault | None = None
        if self._is_draining:
            refused = call_timeouts.draining()
        elif len(self._queues) >= self._settings.queue_limit:
            refused = call_timeouts.no_room("the pool's queue", self._settings.queue_limit)
        elif gate is not None:
            open_ms = gate.refusal_ms(now_ms)
            if open_ms:
                self._refuse_open(entry, open_ms)
                return
            limit = gate.service.queue_limit
            if len(gate.queue) >= limit:
                refused = call_timeouts.no_room(f"the queue of {gate.service.name}", limit)
        if refused is not None:
            self.stats.refused += 1
            self._push(entry, refused)
            return
        self._entries[entry.execution] = entry
        self._queues.push(entry)
        if entry.deadline_ms is not None:
            self._wheel.set(entry, max(entry.deadline_ms, 1))

    def _pump(self, now_ms: int) -> None:
        """Begin calls until slots, or calls that may begin, run out."""
        while self._free > 0 and self._queues:
            entry = self._queues.next(now_ms)
            if entry is None:
                return
            self._start(entry, now_ms)

    def _refuse_open(self, entry: PoolEntry, open_ms: int) -> None:
        self.stats.circuit_open += 1
        self._leave(entry)
        name = entry.request.call.service or ""
        self._push(entry, call_timeouts.circuit_open(name, open_ms))

    # --- running ------------------------------------------------------------------------

    def _start(self, entry: PoolEntry, now_ms: int) -> None:
        request = entry.request
        deadline_ms = entry.deadline_ms
        if deadline_ms is not None and deadline_ms <= now_ms:
            self._expire_queued(entry, now_ms)
            return
        due_ms = now_ms + call_timeouts.call_timeout_ms(
            request, self._queues.services, self._settings.default_timeout_ms, self._timeout_of
        )
        if deadline_ms is not None and deadline_ms < due_ms:
            due_ms = deadline_ms
        self.stats.started += 1
        self._free -= 1
        entry.state = EntryState.RUNNING
        entry.started_ms = now_ms
        if entry.gate is not None:
            entry.gate.begin(entry, due_ms + call_timeouts.LEASE_GRACE_MS, now_ms)
        self._wheel.set(entry, due_ms)
        entry.task = asyncio.get_running_loop().create_task(self._run(entry))

    async def _run(self, entry: PoolEntry) -> None:
        entry.has_begun = True
        try:
            outcome = await self._runner.run(entry.request)
        except asyncio.CancelledError as error:
            task = entry.task
            if task is None or task.cancelling():
                self._ended(entry, None)
                raise
            outcome = self._broken(entry, error)  # not this task was cancelled, but its call
        except Exception as error:
            outcome = self._broken(entry, error)
        self._ended(entry, outcome)

    def _broken(self, entry: PoolEntry, error: BaseException) -> TaskOutcome:
        _log.error("task runner raised for %s", entry.execution, exc_info=error)
        return self._outcome(entry, call_timeouts.broken_runner(error))

    def _ended(self, entry: PoolEntry, outcome: TaskOutcome | None) -> None:
        """A call is over: free its slot, report it, begin the next."""
        now_ms = self._clock.ticks_ms()
        state = entry.state
        if state is EntryState.GONE:
            return
        self._vacate(entry)
        if state is EntryState.RUNNING:
            self._judge(entry, outcome, now_ms)
            self._forget(entry)
            if outcome is not None:
                self._settle(entry, outcome, now_ms)
        if self._queues:
            self._pump(now_ms)

    def _vacate(self, entry: PoolEntry) -> None:
        entry.state = EntryState.GONE
        self._free += 1
        self._wheel.clear(entry)
        self._overdue.discard(entry)
        if entry.gate is not None:
            entry.gate.vacate(entry)
            self._queues.wake(entry.gate)

    def _judge(self, entry: PoolEntry, outcome: TaskOutcome | None, now_ms: int) -> None:
        gate = entry.gate
        if gate is None:
            return
        if gate.judge(entry, outcome, now_ms):
            self._queues.refuse_queued(gate, now_ms)
        self._queues.wake(gate)

    def _cut(self, entry: PoolEntry, now_ms: int) -> None:
        """Cancel a running call; its slot is free when it ends, or when the grace is over."""
        self._forget(entry)
        if entry.task is not None:
            entry.task.cancel()
        if entry.has_begun:
            entry.state = EntryState.OVERDUE
            self._overdue.add(entry)
            self._wheel.set(entry, now_ms + call_timeouts.LEASE_GRACE_MS)
        else:
            self._vacate(entry)  # a task cancelled before its first step never runs

    # --- alarms -------------------------------------------------------------------------

    def _ring(self, item: PoolEntry | ServiceGate) -> None:
        now_ms = self._clock.ticks_ms()
        if isinstance(item, ServiceGate):
            self._queues.wake(item)
        elif item.state is EntryState.QUEUED:
            self._queues.remove(item)
            self._expire_queued(item, now_ms)
        elif item.state is EntryState.RUNNING:
            self.stats.timed_out += 1
            outcome = self._outcome(
                item, call_timeouts.timed_out(item.request, now_ms - item.started_ms)
            )
            self._judge(item, outcome, now_ms)
            self._cut(item, now_ms)
            self._settle(item, outcome, now_ms)
        elif item.state is EntryState.OVERDUE:
            self.stats.reclaimed += 1
            _log.warning("%s did not stop when cut; its slot goes to others", item.execution)
            self._vacate(item)
        self._pump(now_ms)

    def _expire_queued(self, entry: PoolEntry, now_ms: int) -> None:
        self.stats.timed_out += 1
        self._leave(entry)
        fault = call_timeouts.waited_too_long(entry.request, now_ms - entry.queued_ms)
        self._settle(entry, self._outcome(entry, fault), now_ms)

    # --- outcomes -----------------------------------------------------------------------

    def _leave(self, entry: PoolEntry) -> None:
        """Let go of a call that was never begun; no queue has it any more."""
        entry.state = EntryState.GONE
        self._forget(entry)

    def _forget(self, entry: PoolEntry) -> None:
        self._wheel.clear(entry)
        self._entries.pop(entry.execution, None)
        if not self._entries and self._idle is not None and not self._idle.done():
            self._idle.set_result(None)

    def _outcome(self, entry: PoolEntry, fault: Fault) -> TaskOutcome:
        request = entry.request
        return TaskOutcome(
            workflow_id=request.workflow_id,
            frame=request.frame,
            key=request.key,
            error=fault,
            service=request.call.service,
        )

    def _push(self, entry: PoolEntry, fault: Fault) -> None:
        """Report a call that was not begun; it is not kept, so that it may be sent again."""
        self.stats.faulted += 1
        self._batches.add(entry.owner, self._outcome(entry, fault))

    def _settle(self, entry: PoolEntry, outcome: TaskOutcome, now_ms: int) -> None:
        """Report the outcome and keep it for repeats."""
        msgspec.structs.force_setattr(outcome, "key", entry.request.key)  # ours alone yet
        duration_ms = now_ms - entry.started_ms if entry.started_ms else 0
        if duration_ms and not outcome.duration_ms:
            msgspec.structs.force_setattr(outcome, "duration_ms", duration_ms)
        try:
            self._recent.put(entry.execution, outcome, now_ms)
        except (TypeError, ValueError, RecursionError, msgspec.MsgspecError) as error:
            outcome = self._broken(entry, error)
            self._recent.put(entry.execution, outcome, now_ms)
        if outcome.error is None:
            self.stats.completed += 1
        else:
            self.stats.faulted += 1
        self._batches.add(entry.owner, outcome)
