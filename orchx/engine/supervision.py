"""Keeping the Dispatcher's books true: recovery at start, and audits ever after.

"Stuck is a bug" (DESIGN 5): for every workflow that is not over, an owner has it, a timer
is set, or a command is on its way. The audit compares what the Dispatcher believes with
what owners, queue and projection say, and repairs what differs.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from orchx.domain.messages import AnyCommand, StartWorkflow
from orchx.engine.dispatcher import Dispatcher
from orchx.engine.placement import Entry, Station
from orchx.errors import Bug, OrchxError, TryLater, Unavailable
from orchx.ports.clock import Clock
from orchx.ports.command_queue import CommandQueue
from orchx.ports.state_store import TERMINAL, StateStore, WorkflowSummary
from orchx.settings import OwnerSettings, SweepSettings

logger = structlog.get_logger(__name__)

PAGE = 1_000
RESEND_AFTER_MS = 3_000
SWEEPS_PER_AUDIT = 10

# Returns when the projection holds everything that was in the log at the call.
Barrier = Callable[[], Awaitable[None]]


class Supervision:
    """Recovers a Dispatcher, then watches over it."""

    def __init__(
        self,
        dispatcher: Dispatcher,
        *,
        queue: CommandQueue,
        store: StateStore,
        barrier: Barrier,
        clock: Clock,
        owners: OwnerSettings,
        sweep: SweepSettings,
    ) -> None:
        self._dispatcher = dispatcher
        self._roster = dispatcher.roster
        self._queue = queue
        self._store = store
        self._barrier = barrier
        self._clock = clock
        self._owners = owners
        self._sweep = sweep
        self._suspects: set[str] = set()

    async def recover(self) -> None:
        """Fill the books: what owners hold, what the projection knows, what is queued."""
        while True:
            try:
                await self._barrier()
                break
            except TryLater as error:  # a long log takes the projector its time
                logger.warning("waiting for the projection", reason=str(error))
                await self._clock.sleep(self._sweep.interval_ms / 1000)
        after_id = ""
        while page := await self._store.unfinished(after_id=after_id, limit=PAGE):
            for summary in page:
                self._adopt(summary)
            after_id = page[-1].workflow_id
        await self._reconcile_all()
        for entry in list(self._roster.entries.values()):
            if entry.owner is None and not entry.queued and not entry.passive:
                self._roster.seek_place(entry)
        await self._offer_pending()

    def _adopt(self, summary: WorkflowSummary) -> None:
        """Enter a workflow that the projection knows and the books do not."""
        if summary.workflow_id in self._roster.entries:
            return
        entry = Entry(
            summary.workflow_id,
            tenant=summary.tenant,
            priority=summary.priority,
            deadline_ms=summary.deadline_ms,
            isolation=summary.isolation,
        )
        self._roster.entries[summary.workflow_id] = entry
        if summary.listens:
            self._dispatcher.subscriptions.add(summary.workflow_id, summary.listens)
        if summary.passivated:
            self._roster.sleep(entry, summary.due_at_ms)

    async def _offer_pending(self) -> None:
        """Offer what is queued and not acknowledged, but for what has been applied already."""
        position = 0
        while page := await self._queue.pending(after_position=position, limit=PAGE):
            commands = [command for _, command in page]
            known = await self._store.load([c.workflow_id for c in commands if c.workflow_id])
            done = {c.id for c in commands if _is_done(c, known.get(c.workflow_id))}
            self._dispatcher.acknowledge(sorted(done))
            self._dispatcher.offer([c for c in commands if c.id not in done])
            position = page[-1][0]

    # -- sweeping --------------------------------------------------------------------------

    async def run(self) -> None:
        """Sweep and audit for ever; what fails is logged and made again.

        They do not wait for each other: a slow store must not cost the owners their lease.
        """
        interval_s = self._sweep.interval_ms / 1000
        await asyncio.gather(
            self._for_ever(interval_s, self.sweep),
            self._for_ever(interval_s * SWEEPS_PER_AUDIT, self.audit),
        )

    async def _for_ever(self, interval_s: float, step: Callable[[], Awaitable[None]]) -> None:
        while True:
            await self._clock.sleep(interval_s)
            try:
                await step()
            except Bug:  # this process cannot do its work any more: another is to
                raise
            except OrchxError as error:
                logger.error("supervision failed", error=str(error))

    async def sweep(self) -> None:
        """Reconcile with every owner, and send again what it seems not to have got."""
        await self._reconcile_all()
        now_ms = self._clock.now_ms()
        for station in self._roster.stations:
            for workflow_id in list(station.held):
                entry = self._roster.entries[workflow_id]
                if entry.commands and now_ms - entry.sent_ms > RESEND_AFTER_MS:
                    self._roster.resend(entry)
        self._roster.place_soon()
        self._dispatcher.watchers.forget_silent()

    async def _reconcile_all(self) -> None:
        """Ask all owners at once: those that are silent must not cost the others their lease."""
        await asyncio.gather(*(self._reconcile(station) for station in self._roster.stations))

    async def _reconcile(self, station: Station) -> None:
        """Compare with one owner; one that stays silent beyond its lease loses everything."""
        asked_ms = self._clock.now_ms()
        expected = list(station.held)
        try:
            status = await station.link.reconcile(expected)
        except Unavailable:
            self._silent(station)
            return
        station.last_contact_ms = asked_ms
        station.reachable = True
        if station.incarnation != status.incarnation:
            was_known = bool(station.incarnation)
            self._dispatcher.renewed(station, status.incarnation)
            if was_known:
                return
        for workflow_id in status.unknown:
            entry = self._roster.entries.get(workflow_id)
            stale = entry is not None and entry.sent_ms < asked_ms - self._sweep.interval_ms
            if entry is not None and entry.owner == station.link.name and stale:
                self._roster.resend(entry, claim=True)
        for workflow_id in status.unexpected:
            entry = self._roster.entries.get(workflow_id)
            if entry is not None and entry.owner is None and not entry.commands:
                self._roster.settle_at(entry, station)

    def _silent(self, station: Station) -> None:
        silent_ms = self._clock.now_ms() - station.last_contact_ms
        if silent_ms <= self._owners.lease_ms or not station.reachable:
            return
        station.reachable = False
        logger.error("owner lost", owner=station.link.name, held=len(station.held))
        for workflow_id in list(station.held):
            self._roster.displace(self._roster.entries[workflow_id])

    async def audit(self) -> None:
        """Find unfinished workflows that the books do not know, and commands nobody has.

        A workflow seen so in two audits in a row is taken up.
        """
        await self._barrier()
        suspects: set[str] = set()
        after_id = ""
        while page := await self._store.unfinished(after_id=after_id, limit=PAGE):
            for summary in page:
                if summary.listens:  # its owner's word of it may have been lost
                    self._dispatcher.subscriptions.add(summary.workflow_id, summary.listens)
                if summary.workflow_id in self._roster.entries:
                    continue
                if summary.workflow_id in self._suspects:
                    logger.warning("taking up a lost workflow", workflow_id=summary.workflow_id)
                    self._adopt(summary)
                    entry = self._roster.entries[summary.workflow_id]
                    if not summary.passivated:
                        self._roster.seek_place(entry)
                else:
                    suspects.add(summary.workflow_id)
            after_id = page[-1].workflow_id
        self._suspects = suspects
        self._roster.rescue()
        await self._offer_pending()


def _is_done(command: AnyCommand, summary: WorkflowSummary | None) -> bool:
    """Return whether a command needs nothing more: it has begun its workflow, or is too late."""
    if summary is None:
        return False
    if isinstance(command, StartWorkflow):
        return summary.status != "pending"  # a claim alone begins nothing
    return summary.status in TERMINAL
