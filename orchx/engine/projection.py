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

T = TypeVar("T")

START_PAUSE_S = 1.0
"""Between attempts to learn how many partitions there are."""

_log = structlog.get_logger(__name__)


class Projection:
    """Runs the projectors of all partitions as one.

    Args:
        log: says how many partitions there are; asked once.
        clock: time.
        make: makes the projector of a partition.
    """

    def __init__(self, log: EventLog, clock: Clock, make: Callable[[int], Projector]) -> None:
        self._log = log
        self._clock = clock
        self._make = make
        self._projectors: Sequence[Projector] = ()

    async def run(self) -> NoReturn:
        """Project for ever; while the log is out of reach, ask again."""
        while not self._projectors:
            try:
                count = await self._log.partitions()
                self._projectors = [self._make(partition) for partition in range(count)]
            except (DriverError, TryLater) as error:
                _log.warning("projection.waits", error=str(error), retry_after_s=START_PAUSE_S)
                await self._clock.sleep(START_PAUSE_S)
        async with asyncio.TaskGroup() as group:
            for projector in self._projectors[1:]:
                group.create_task(projector.run())
            await self._projectors[0].run()

    async def barrier(
        self, timeout_s: float = BARRIER_TIMEOUT_S, *, partition: int | None = None
    ) -> Mapping[int, int]:
        """Return when everything that is durable now is projected, in one partition or in all.

        Returns:
            up to where it is projected, of each partition that was asked about.

        Raises:
            Unavailable: that took longer than `timeout_s`, or projecting has not begun.
            DriverError, StorageFull: a store failed meanwhile.
        """
        if not self._projectors:
            raise Unavailable("the projection waits for the event log")
        if partition is not None:
            if partition >= len(self._projectors):
                raise Unavailable(f"the projection knows no partition {partition} of the event log")
            return {partition: await self._projectors[partition].barrier(timeout_s)}
        reached = await _all(projector.barrier(timeout_s) for projector in self._projectors)
        return dict(enumerate(reached))

    async def lag(self) -> int:
        """Return how far the projection is behind the log, in offsets of all partitions."""
        return sum(await _all(projector.lag() for projector in self._projectors))

    @property
    def gaps(self) -> int:
        """Records that could not be applied because one before them is missing: a defect."""
        return sum(projector.gaps for projector in self._projectors)


async def _all(work: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """Await all; the first failure is raised once all are done."""
    results = await asyncio.gather(*work, return_exceptions=True)
    found: list[T] = []
    for result in results:
        if isinstance(result, BaseException):
            raise result
        found.append(result)
    return found
