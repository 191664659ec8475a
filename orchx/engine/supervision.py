"""Keeping the Dispatcher's books true: recovery at start, and audits ever after.

"Stuck is a bug" (DESIGN 5): for every workflow that is not over, an owner has it, a timer
is set, or a command is on its way. The audit compares what the Dispatcher believes with
what owners, queue and projection say, and repairs what differs.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from typing import NoReturn

import structlog

from orchx.domain.messages import AnyCommand, StartWorkflow
from orchx.engine.dispatcher import Dispatcher
from orchx.engine.placement import Entry, Station
from orchx.errors import Bug, OrchxError, TryLater, Unavailable
from orchx.ports.clock import Clock
from orchx.ports.command_queue import CommandQueue
from orchx.ports.state_store import TERMINAL, StateStore, WorkflowSummary
from orchx.ports.supervision import StateServiceLink
from orchx.settings import OwnerSettings, SweepSettings

logger = structlog.get_logger(__name__)

PAGE = 1_000
RESEND_AFTER_MS = 3_000
SWEEPS_PER_AUDIT = 10


class Supervision:
    """Fills a Dispatcher's books for the partitions that it is given, then watches over them.

    A `PartitionHolder`.
    """

    def __init__(
        self,
        dispatcher: Dispatcher,
        *,
        queue: CommandQueue,
        store: StateStore,
        state: StateServiceLink,
        clock: Clock,
        owners: OwnerSettings,
        sweep: SweepSettings,
    ) -> None:
        self._dispatcher = dispatcher
        self._roster = dispatcher.roster
        self._queue = queue
        self._store = store
        self._state = state
        self._clock = clock
        self._owners = owners
        self._sweep = sweep
        self._partition_of = dispatcher.membership.partition_of_workflow
        self._suspects: set[str] = set()
        self._projected: frozenset[int] = frozenset()  # what is held, and what is being taken

    async def take(self, partitions: Sequence[int]) -> None:
        """Fill the books: what the projection knows, what owners hold, what is queued.

        Raises:
            OrchxError: a store failed; to be asked again.
        """
        held = self._dispatcher.held
        new = [partition for partition in partitions if partition not in held]
        await self._queue.hold({*held, *new})
        await self._caught_up(new)
        adopted = [entry async for entry in self._unknown(new)]
        await self._reconcile_all()
        for entry in adopted:
            if entry.owner is None and not entry.queued and not entry.passive:
                self._roster.seek_place(entry)
        # Offers count from here on: whoever listens and whoever is placed is known.
        self._dispatcher.serve(new)
        await self._offer_pending()

    async def give_up(self, partitions: Sequence[int]) -> None:
        """Strike partitions off the books, and have the owners let go of their workflows."""
        by_owner = self._dispatcher.leave(partitions)
        self._have_projected(self._dispatcher.held)
        await self._release(by_owner)
        try:
            await self._dispatcher.settle()
            await self._queue.hold(self._dispatcher.held)
        except OrchxError as error:  # whoever is next does again what has been done
            logger.warning("acknowledgements not handed over", error=str(error))

    async def _release(self, by_owner: Mapping[str, Sequence[str]]) -> None:
        """Have owners let go; one that does not is fenced by whoever claims its workflows."""
        stations = self._roster.stations.by_name
        work = [stations[name].link.release(ids) for name, ids in by_owner.items()]
        for result in await asyncio.gather(*work, return_exceptions=True):
            if isinstance(result, OrchxError) and not isinstance(result, Bug):
                logger.warning("workflows not let go", error=str(result))
            elif isinstance(result, BaseException):
                raise result

    async def _caught_up(self, partitions: Collection[int]) -> None:
        while True:
            try:
                self._have_projected({*self._dispatcher.held, *partitions})
                await self._state.barrier(partitions)
                return
            except TryLater as error:  # a long log takes the projector its time
                logger.warning("waiting for the projection", reason=str(error))
                await self._clock.sleep(self._sweep.interval_ms / 1000)

    def _have_projected(self, partitions: Collection[int]) -> None:
        self._projected = frozenset(partitions)
        self._state.serve(self._projected)

    async def _unknown(self, partitions: Collection[int]) -> AsyncIterator[Entry]:
        """Enter what the projection knows of partitions, and the books do not; yield it."""
        wanted = set(partitions)
        if not wanted:
            return
        after_id = ""
        while page := await self._store.unfinished(after_id=after_id, limit=PAGE):
            for summary in page:
                if self._partition_of(summary.workflow_id) in wanted:
                    yield self._adopt(summary)
            after_id = page[-1].workflow_id

    def _adopt(self, summary: WorkflowSummary) -> Entry:
        """Enter a workflow that the projection knows, unless the books do; return its entry."""
        known = self._roster.entries.get(summary.workflow_id)
        if known is not None:
            return known
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
        return entry

    async def _offer_pending(self) -> None:
        """Offer what is queued and not acknowledged, but for what has been applied already."""
        position = 0
        while page := await self._queue.pending(after_position=position, limit=PAGE):
            await self._offer_undone([command for _, command in page])
            position = page[-1][0]

    async def _offer_undone(self, commands: Sequence[AnyCommand]) -> None:
        known = await self._store.load([c.workflow_id for c in commands if c.workflow_id])
        done = {c.id for c in commands if _is_done(c, known.get(c.workflow_id))}
        self._dispatcher.acknowledge(sorted(done))
        self._dispatcher.offer([c for c in commands if c.id not in done])

    async def _offer_arrivals(self) -> NoReturn:
        """Offer what the ingestion of other engines has queued; for ever."""
        position = 0
        while True:
            try:
                reached, commands = await self._queue.arrivals(
                    after_position=position, known=self._dispatcher.knows
                )
                if commands:
                    await self._offer_undone(commands)
                position = reached  # not before: what could not be offered comes again
            except Bug:
                raise
            except OrchxError as error:
                logger.error("commands not taken", error=str(error))
                await self._clock.sleep(self._sweep.interval_ms / 1000)

    # -- sweeping --------------------------------------------------------------------------

    async def run(self) -> None:
        """Sweep and audit for ever; what fails is logged and made again.

        They do not wait for each other: a slow store must not cost the owners their lease.
        """
        interval_s = self._sweep.interval_ms / 1000
        await asyncio.gather(
            self._for_ever(interval_s, self.sweep),
            self._for_ever(interval_s * SWEEPS_PER_AUDIT, self.audit),
            self._offer_arrivals(),
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
        if self._projected:  # the state service may have begun anew since it was told
            self._state.serve(self._projected)
        await self._reconcile_all()
        ticks_ms = self._clock.ticks_ms()
        for station in self._roster.stations:
            for workflow_id in list(station.held):
                entry = self._roster.entries[workflow_id]
                if entry.commands and ticks_ms - entry.sent_ms > RESEND_AFTER_MS:
                    self._roster.resend(entry)
        self._roster.place_soon()
        self._dispatcher.watchers.forget_silent()

    async def _reconcile_all(self) -> None:
        """Ask all owners at once: those that are silent must not cost the others their lease."""
        await asyncio.gather(*(self._reconcile(station) for station in self._roster.stations))

    async def _reconcile(self, station: Station) -> None:
        """Compare with one owner; one that stays silent beyond its lease loses everything."""
        asked_ms = self._clock.ticks_ms()
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
        silent_ms = self._clock.ticks_ms() - station.last_contact_ms
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
        await self._state.barrier(self._dispatcher.held)
        suspects: set[str] = set()
        after_id = ""
        while page := await self._store.unfinished(after_id=after_id, limit=PAGE):
            for summary in page:
                if not self._dispatcher.holds(summary.workflow_id):
                    continue
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
        self._roster.rescue(self._dispatcher.holds)
        await self._offer_pending()


def _is_done(command: AnyCommand, summary: WorkflowSummary | None) -> bool:
    """Return whether a command needs nothing more: it has begun its workflow, or is too late."""
    if summary is None:
        return False
    if isinstance(command, StartWorkflow):
        return summary.status != "pending"  # a claim alone begins nothing
    return summary.status in TERMINAL
