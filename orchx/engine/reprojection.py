"""Projecting the log once more, into stores that nobody else writes to."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Final, TypeAlias, TypeVar

import structlog

from orchx.domain.events import Record
from orchx.domain.lineage import AcceptedRecords
from orchx.engine.projector import Projector
from orchx.errors import DriverError, TryLater
from orchx.ports.archive import Archive
from orchx.ports.clock import Clock
from orchx.ports.event_log import EventLog
from orchx.ports.log_observer import LogObserver
from orchx.ports.state_store import StateStore
from orchx.settings import Settings

T = TypeVar("T")

BATCH_LIMIT: Final = 10_000
"""Records per step: fewer, larger writes than while serving, where they would make others wait."""

PARTITIONS_AT_ONCE: Final = 2
"""While one waits for a store, the other computes; each has a batch in memory."""

ATTEMPTS_MAX: Final = 5
PAUSE_S: Final = 2.0
LINEAGES_MAX: Final = 100_000
PAGE: Final = 1_000

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far a stage is: of `total` steps, whatever they are, so many are `done`."""

    stage: str
    done: int
    total: int


Told: TypeAlias = Callable[[Progress], None]


def nobody(_: Progress) -> None:
    """Tell nobody."""


async def persistently(what: str, attempt: Callable[[], Awaitable[T]], clock: Clock) -> T:
    """Do what changes nothing when it is done again, up to `ATTEMPTS_MAX` times.

    Raises:
        DriverError, TryLater: what the last attempt raised.
    """
    for number in range(1, ATTEMPTS_MAX):
        try:
            return await attempt()
        except (DriverError, TryLater) as error:
            _log.warning("tried again", what=what, attempt=number, error=str(error))
            await clock.sleep(PAUSE_S)
    return await attempt()


class Reprojection:
    """Projects every partition; each call goes on where the last one has ended."""

    def __init__(
        self,
        log: EventLog,
        store: StateStore,
        clock: Clock,
        settings: Settings,
        *,
        archive: Archive | None = None,
        observer: LogObserver | None = None,
        batch_limit: int = BATCH_LIMIT,
    ) -> None:
        """Project into `store`, into `archive` where there is one, and tell the `observer`."""
        self._log = log
        self._clock = clock

        def make(partition: int) -> Projector:
            return Projector(
                log,
                store,
                clock,
                settings,
                partition=partition,
                archive=archive,
                observer=observer,
                batch_limit=batch_limit,
            )

        self._make = make
        self._projectors: dict[int, Projector] = {}
        self._reached: dict[int, int] = {}
        self.records = 0
        """How many were projected."""

    @property
    def gaps(self) -> int:
        """Records that could not be applied because one before them is missing."""
        return sum(projector.gaps for projector in self._projectors.values())

    async def reach(self, targets: Mapping[int, int], told: Told = nobody) -> None:
        """Project each partition up to its offset, where there are records up to there.

        Raises:
            DriverError, TryLater, StorageFull: a store failed, again and again.
        """
        ahead = {p: t for p, t in targets.items() if t > self._reached.get(p, 0)}
        done = dict.fromkeys(ahead, 0)
        at_once = asyncio.Semaphore(PARTITIONS_AT_ONCE)

        def tell(partition: int, reached: int) -> None:
            done[partition] = reached
            told(Progress(stage="projecting", done=sum(done.values()), total=sum(ahead.values())))

        async def one(partition: int, target: int) -> None:
            async with at_once:
                await self._reach(partition, target, tell)

        try:
            async with asyncio.TaskGroup() as group:
                for partition, target in ahead.items():
                    group.create_task(one(partition, target))
        except ExceptionGroup as failed:
            raise failed.exceptions[0] from failed

    async def _reach(self, partition: int, target: int, tell: Callable[[int, int], None]) -> None:
        # The tail waits for what it knows to be there.
        await persistently("the log's end", lambda: self._log.last_offset(partition), self._clock)
        projector = self._projectors.get(partition)
        if projector is None:
            projector = self._projectors[partition] = self._make(partition)
        step = projector.step
        while count := await persistently("projecting", lambda: step(up_to=target), self._clock):
            self.records += count
            tell(partition, projector.reached)
        self._reached[partition] = target
        tell(partition, target)


class Hearing:
    """Has an observer hear the accepted records between two offsets of each partition.

    What stands before the first is known from the histories.
    """

    def __init__(self, log: EventLog, observer: LogObserver, clock: Clock) -> None:
        """`log` has to have every history that it reads."""
        self._log = log
        self._observer = observer
        self._clock = clock
        self._lineages: OrderedDict[str, AcceptedRecords] = OrderedDict()

    async def hear(self, heard: Mapping[int, int], targets: Mapping[int, int], told: Told) -> None:
        """Go through the partitions, one after another.

        Raises:
            DriverError, TryLater, StorageFull: the log, or the observer, again and again.
        """
        for number, (partition, target) in enumerate(sorted(targets.items())):
            told(Progress(stage="hearing", done=number, total=len(targets)))
            offset = heard.get(partition, 0)
            await self._log.last_offset(partition)
            while offset < target:
                records = await self._log.tail(offset, limit=PAGE, partition=partition)
                accepted = [r for r in records if r.offset <= target and await self._accepts(r)]
                if accepted:
                    observe = partial(self._observer.observe, accepted)
                    await persistently("hearing", observe, self._clock)
                if not records:
                    break
                offset = records[-1].offset

    async def _accepts(self, record: Record) -> bool:
        workflow_id = record.workflow_id
        lineage = self._lineages.get(workflow_id)
        if lineage is None:
            lineage = self._lineages[workflow_id] = await self._before(record)
            while len(self._lineages) > LINEAGES_MAX:
                self._lineages.popitem(last=False)
        return lineage.accepts(record)

    async def _before(self, record: Record) -> AcceptedRecords:
        lineage = AcceptedRecords()
        if record.epoch == 1 and record.seq == 0:
            # Its first one, but for an owner who has lost the first epoch and comes after
            # `LINEAGES_MAX` others: what that one caused is known by its ids.
            return lineage
        after = 0
        while page := await self._log.read(record.workflow_id, after_offset=after, limit=PAGE):
            for earlier in page:
                if earlier.offset >= record.offset:
                    return lineage
                lineage.accepts(earlier)
            after = page[-1].offset
        return lineage
