"""Keeps the state store true to the log.

At-least-once input, exactly-once effect: a batch's summaries are saved before the offset
behind it, so a crash at any await repeats the batch, of which nothing counts twice: each
summary knows the last record that it holds. Whatever goes wrong in a step, what is in memory
is dropped and read again from the store.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Sequence
from typing import NoReturn

import structlog

from orchx.domain.events import Record
from orchx.engine.summary import LiveSummary
from orchx.errors import DriverError, OrchxError, StorageFull, TryLater, Unavailable
from orchx.ports.archive import Archive
from orchx.ports.clock import Clock
from orchx.ports.event_log import EventLog
from orchx.ports.log_observer import LogObserver
from orchx.ports.state_store import StateStore
from orchx.settings import Settings

BATCH_LIMIT = 2_000
"""Records per step: some 160 workflows' worth, one transaction."""

LIVE_LIMIT = 4_096
"""Summaries of running workflows kept in memory; any other is loaded when it is needed."""

BARRIER_TIMEOUT_S = 10.0
FAILURE_DELAY_S = 1.0
"""Pause of `run` after a failed step."""

REST_SHARE = 3
REST_MAX_MS = 250
"""Between steps: some three times as long as the last one took, within this, in intervals."""

_log = structlog.get_logger(__name__)


async def distance(log: EventLog, offset: int, partition: int) -> int:
    """Return how far an offset is from the log's end, in offsets; 0 if nothing stands between."""
    behind = await log.last_offset(partition) - offset
    if behind <= 0 or not await log.tail(offset, limit=1, partition=partition):
        return 0  # the last offsets may have no records
    return behind


class Projector:
    """Reads a partition of the log on and folds what counts into the state store.

    One per partition. `observer`, if there is one, hears of every accepted record at least
    once, before the offset moves past it; `archive` is given every record before that.
    """

    def __init__(
        self,
        log: EventLog,
        store: StateStore,
        clock: Clock,
        settings: Settings,
        *,
        partition: int = 0,
        observer: LogObserver | None = None,
        archive: Archive | None = None,
        batch_limit: int = BATCH_LIMIT,
        live_limit: int = LIVE_LIMIT,
    ) -> None:
        self._log = log
        self._store = store
        self._clock = clock
        self._interval_ms = settings.sweep.projector_interval_ms
        self._partition = partition
        self._observer = observer
        self._archive = archive
        self._batch_limit = batch_limit
        self._live_limit = live_limit
        self._turn = asyncio.Lock()
        self._offset: int | None = None  # None: to be read from the store
        self._live: OrderedDict[str, LiveSummary] = OrderedDict()
        self.failure: str | None = None
        """Why the last step failed; nothing if it did not."""
        self.gaps = 0
        """Records that could not be applied because one before them is missing: a defect."""

    @property
    def reached(self) -> int:
        """Up to where the last step of this projector has projected; 0 before the first."""
        return self._offset or 0

    async def step(self, *, up_to: int | None = None) -> int:
        """Project one batch and return how many records it held; 0: nothing is left to do.

        Args:
            up_to: an offset that nothing is projected behind.

        Raises:
            DriverError, StorageFull, TryLater: a store or the observer failed; nothing is lost,
                and the next step begins where this one did.
        """
        async with self._turn:
            return await self._step(up_to)

    async def run(self) -> NoReturn:
        """Project for ever: at once while there is much, else every interval, or less often.

        The dearer the steps are, the longer they are apart, for then each has more to do at once.
        """
        while True:
            begun_ms = self._clock.ticks_ms()
            try:
                applied = await self.step()
            except (DriverError, StorageFull, TryLater) as error:
                _log.warning("projector.failed", error=str(error), retry_after_s=FAILURE_DELAY_S)
                await self._clock.sleep(FAILURE_DELAY_S)
                continue
            if applied < self._batch_limit:
                await self._clock.sleep(self._rest_s(begun_ms))

    def _rest_s(self, begun_ms: int) -> float:
        """Return how long to rest after a step: until a time at which others step too.

        So those of one process write together. It is up to an interval less than reckoned.
        """
        now_ms = self._clock.ticks_ms()
        rest_ms = min(REST_SHARE * (now_ms - begun_ms), REST_MAX_MS)
        intervals = -(-max(rest_ms, self._interval_ms) // self._interval_ms)
        return (intervals * self._interval_ms - now_ms % self._interval_ms) / 1000

    async def barrier(self, timeout_s: float = BARRIER_TIMEOUT_S) -> int:
        """Return when everything that is durable now is projected: up to where that is.

        Raises:
            Unavailable: that took longer than `timeout_s`.
            DriverError, StorageFull: a store failed meanwhile.
        """
        reached = asyncio.ensure_future(self._catch_up())
        timer = asyncio.ensure_future(self._clock.sleep(timeout_s))
        try:
            await asyncio.wait((reached, timer), return_when=asyncio.FIRST_COMPLETED)
            if not reached.done():
                raise Unavailable(f"the projection is not caught up after {timeout_s} s")
            return reached.result()
        finally:
            reached.cancel()
            timer.cancel()
            await asyncio.gather(reached, timer, return_exceptions=True)

    async def lag(self) -> int:
        """Return how far the projection is behind the log, in offsets."""
        offset = self._offset
        if offset is None:
            offset = await self._store.offset(self._partition)
        return await distance(self._log, offset, self._partition)

    async def _catch_up(self) -> int:
        target = await self._log.last_offset(self._partition)
        while self._offset is None or self._offset < target:
            async with self._turn:
                if self._offset is not None and self._offset >= target:
                    break
                if not await self._step():
                    break  # offsets may have holes; an empty tail is the end of the log
        return self._offset or 0

    async def _step(self, up_to: int | None = None) -> int:
        saved = False
        try:
            if self._offset is None:
                self._offset = await self._begin()
            records = await self._log.tail(
                self._offset, limit=self._batch_limit, partition=self._partition
            )
            if up_to is not None:
                records = [record for record in records if record.offset <= up_to]
            if records:
                await self._project(records)
            saved = True
            self.failure = None
            return len(records)
        except OrchxError as error:
            self.failure = str(error)
            raise
        finally:
            if not saved:
                self._forget()

    async def _begin(self) -> int:
        """Return where to go on: behind what state and archive both have."""
        offset = await self._store.offset(self._partition)
        if self._archive is None:
            return offset
        # One that was dropped is filled again; what is projected twice changes nothing.
        return min(offset, (await self._archive.offsets()).get(self._partition, 0))

    async def _project(self, records: Sequence[Record]) -> None:
        offset = records[-1].offset
        if self._archive is not None:
            await self._archive.add(records, offset=offset, partition=self._partition)
        live = await self._summaries_of(records)
        accepted: list[Record] = []
        changed: dict[str, LiveSummary] = {}
        for record in records:
            summary = live[record.workflow_id]
            if summary.lineage.judge(record) == "accepted":
                summary.apply(record)
                changed[record.workflow_id] = summary
                accepted.append(record)
        self._report_gaps(live)
        if self._observer is not None and accepted:
            await self._observer.observe(accepted)
        frozen = [summary.freeze() for summary in changed.values()]
        await self._store.save(frozen, offset=offset, partition=self._partition)
        self._offset = offset
        self._keep(live)

    async def _summaries_of(self, records: Sequence[Record]) -> dict[str, LiveSummary]:
        """Return the live summary of every workflow in the batch; new ones are empty."""
        known = self._live
        workflow_ids = dict.fromkeys(record.workflow_id for record in records)
        unknown = [workflow_id for workflow_id in workflow_ids if workflow_id not in known]
        stored = await self._store.load(unknown) if unknown else {}
        live: dict[str, LiveSummary] = {}
        for workflow_id in workflow_ids:
            summary = known.get(workflow_id)
            if summary is None:
                row = stored.get(workflow_id)
                summary = LiveSummary(workflow_id) if row is None else LiveSummary.thaw(row)
            live[workflow_id] = summary
        return live

    def _keep(self, live: dict[str, LiveSummary]) -> None:
        """Keep what will be needed soon: neither what has ended nor what sleeps."""
        for workflow_id, summary in live.items():
            if summary.ended_at_ms is not None or summary.passivated:
                self._live.pop(workflow_id, None)
            else:
                self._live[workflow_id] = summary
                self._live.move_to_end(workflow_id)
        while len(self._live) > self._live_limit:
            self._live.popitem(last=False)

    def _report_gaps(self, live: dict[str, LiveSummary]) -> None:
        for workflow_id, summary in live.items():
            if summary.lineage.gaps:
                lineage = summary.lineage
                self.gaps += lineage.gaps
                lineage.gaps = 0
                _log.error(
                    "projector.gap",
                    workflow_id=workflow_id,
                    epoch=lineage.epoch,
                    owner=lineage.owner,
                    after_seq=lineage.seq,
                )

    def _forget(self) -> None:
        self._offset = None
        self._live.clear()
