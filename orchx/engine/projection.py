"""The state service: one projector for each partition of the log."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from typing import Any, NoReturn, TypeVar

import structlog

from orchx.engine.projector import BARRIER_TIMEOUT_S, Projector
from orchx.errors import DriverError, TryLater, Unavailable
from orchx.ports.clock import Clock
from orchx.ports.event_log import EventLog
from orchx.ports.state_store import StateStore

T = TypeVar("T")

START_PAUSE_S = 1.0
"""Between attempts to learn how many partitions there are."""

ELSEWHERE_POLL_S = 0.05
"""Between questions how far another engine's projector has come."""

_log = structlog.get_logger(__name__)


class Projection:
    """Runs the projectors of the partitions that this engine serves as one.

    Two that serve a partition at the same time, in two engines, do no harm.

    Args:
        log: says how many partitions there are; asked once.
        store: says up to where other engines have projected.
        clock: time.
        make: makes the projector of a partition.
        alone: whether this engine serves all partitions; if not, those that it is told.
    """

    def __init__(
        self,
        log: EventLog,
        store: StateStore,
        clock: Clock,
        make: Callable[[int], Projector],
        *,
        alone: bool = True,
    ) -> None:
        self._log = log
        self._store = store
        self._clock = clock
        self._make = make
        self._alone = alone
        self._count = 0
        self._wanted: frozenset[int] = frozenset()
        self._changed = asyncio.Event()
        self._projectors: dict[int, Projector] = {}
        self._work: dict[int, asyncio.Task[NoReturn]] = {}
        self._past_gaps = 0

    def serve(self, partitions: Iterable[int]) -> None:
        """Project these partitions from now on, and no others."""
        wanted = frozenset(partitions)
        if wanted != self._wanted and not self._alone:
            self._wanted = wanted
            self._changed.set()

    async def run(self) -> NoReturn:
        """Project for ever; while the log is out of reach, ask again."""
        while not self._count:
            try:
                self._count = await self._log.partitions()
            except (DriverError, TryLater) as error:
                _log.warning("projection.waits", error=str(error), retry_after_s=START_PAUSE_S)
                await self._clock.sleep(START_PAUSE_S)
        if self._alone:
            self._wanted = frozenset(range(self._count))
        changed: asyncio.Task[Any] | None = None
        try:
            while True:
                self._changed.clear()
                await self._follow_wishes()
                changed = asyncio.ensure_future(self._changed.wait())
                await asyncio.wait(
                    (changed, *self._work.values()), return_when=asyncio.FIRST_COMPLETED
                )
                changed.cancel()
                for task in self._work.values():
                    if task.done():
                        task.result()  # it ends by a bug only
        finally:
            await _end([*self._work.values(), *([] if changed is None else [changed])])

    async def _follow_wishes(self) -> None:
        """Start the projectors that are wanted, and end those that are not."""
        left = [number for number in self._projectors if number not in self._wanted]
        await _end([self._work.pop(number) for number in left])
        for number in left:
            self._past_gaps += self._projectors.pop(number).gaps
        for number in sorted(self._wanted):
            if number not in self._projectors:
                projector = self._projectors[number] = self._make(number)
                self._work[number] = asyncio.ensure_future(projector.run())

    async def barrier(
        self, partitions: Iterable[int] | None = None, timeout_s: float = BARRIER_TIMEOUT_S
    ) -> Mapping[int, int]:
        """Return when everything that is durable now is projected: of these partitions, or all.

        Returns:
            up to where it is projected, of each partition that was asked about.

        Raises:
            Unavailable: that took longer than `timeout_s`, or projecting has not begun.
            DriverError, StorageFull: a store failed meanwhile.
        """
        if not self._count:
            raise Unavailable("the projection waits for the event log")
        wanted = range(self._count) if partitions is None else tuple(partitions)
        for number in wanted:
            if number >= self._count:
                raise Unavailable(f"the projection knows no partition {number} of the event log")
        reached = await _all(self._barrier(number, timeout_s) for number in wanted)
        return dict(zip(wanted, reached, strict=True))

    async def _barrier(self, partition: int, timeout_s: float) -> int:
        projector = self._projectors.get(partition)
        if projector is not None:
            return await projector.barrier(timeout_s)
        end = await self._log.last_offset(partition)
        until_ms = self._clock.ticks_ms() + timeout_s * 1000
        while True:  # another engine projects it
            offset = await self._store.offset(partition)
            if offset >= end or not await self._log.tail(offset, limit=1, partition=partition):
                return offset
            if self._clock.ticks_ms() >= until_ms:
                raise Unavailable(f"partition {partition} is not projected by any engine now")
            await self._clock.sleep(ELSEWHERE_POLL_S)

    def check(self) -> None:
        """See that projecting goes on here; how far it has come is another question.

        Raises:
            Unavailable: it has not begun, or what went wrong the last time.
        """
        if not self._count:
            raise Unavailable("the projection waits for the event log")
        for projector in self._projectors.values():
            if projector.failure is not None:
                raise Unavailable(projector.failure)

    async def lag(self) -> int:
        """Return how far the projection is behind the log, in offsets, here."""
        return sum(await _all(projector.lag() for projector in self._projectors.values()))

    @property
    def gaps(self) -> int:
        """Records that could not be applied because one before them is missing: a defect."""
        return self._past_gaps + sum(projector.gaps for projector in self._projectors.values())


async def _end(tasks: Sequence[asyncio.Task[Any]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def _all(work: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """Await all; the first failure is raised once all are done."""
    results = await asyncio.gather(*work, return_exceptions=True)
    found: list[T] = []
    for result in results:
        if isinstance(result, BaseException):
            raise result
        found.append(result)
    return found
