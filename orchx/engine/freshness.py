"""As of when the current states are known to hold everything: the age of a read that waits not."""

from __future__ import annotations

import asyncio
from typing import Protocol

import structlog

from orchx.errors import OrchxError
from orchx.ports.clock import Clock

REFRESH_MS = 500
"""A younger answer is not worth asking again for."""

TOLERATED_MS = 2_000
"""With an older one a read waits a moment for a younger, so that rare reads have an age too."""

PATIENCE_S = 0.25
"""That moment; there is none while the projection does not answer."""

_log = structlog.get_logger(__name__)


class Barrier(Protocol):
    """Returns when the projection holds what is in a partition of the log now."""

    async def __call__(self, partition: int) -> None:
        """Wait for one partition of the log.

        Raises:
            Unavailable: that takes too long, or the projection is out of reach.
            DriverError, StorageFull: a store failed meanwhile.
        """
        ...


class Freshness:
    """Asks the projection now and then, while there are reads, and remembers when it has answered.

    All that was durable when a barrier that has passed was begun is in what is loaded later. One
    barrier at a time for each partition, and none while nobody reads.
    """

    def __init__(self, barrier: Barrier, clock: Clock) -> None:
        self._barrier = barrier
        self._clock = clock
        self._as_of_ms: dict[int, int] = {}
        self._tried_ms: dict[int, int] = {}
        self._asking: dict[int, asyncio.Task[None]] = {}
        self._silent: set[int] = set()  # partitions whose projection has not answered of late

    async def as_of_ms(self, partition: int) -> int | None:
        """Return a time, in ticks, all of whose records are projected; None: none is known."""
        if self._older_than(REFRESH_MS, partition):
            asking = self._ask(partition)
            if (
                asking is not None
                and partition not in self._silent
                and self._older_than(TOLERATED_MS, partition)
            ):
                await self._wait(asking, partition)
        return self._as_of_ms.get(partition)

    def _older_than(self, age_ms: int, partition: int) -> bool:
        as_of_ms = self._as_of_ms.get(partition)
        return as_of_ms is None or self._clock.ticks_ms() - as_of_ms >= age_ms

    def _ask(self, partition: int) -> asyncio.Task[None] | None:
        """Return the question under way; None where one has just failed."""
        asking, now_ms = self._asking.get(partition), self._clock.ticks_ms()
        if asking is None:
            if now_ms - self._tried_ms.get(partition, -REFRESH_MS) < REFRESH_MS:
                return None
            self._tried_ms[partition] = now_ms
            asking = self._asking[partition] = asyncio.create_task(self._asked(partition, now_ms))
        return asking

    async def _asked(self, partition: int, now_ms: int) -> None:
        try:
            await self._barrier(partition)
        except OrchxError as error:
            if partition not in self._silent:
                _log.warning("freshness.unknown", partition=partition, error=str(error))
            self._silent.add(partition)
        else:
            self._as_of_ms[partition] = now_ms
            self._silent.discard(partition)
        finally:
            del self._asking[partition]

    async def _wait(self, asking: asyncio.Task[None], partition: int) -> None:
        timer = asyncio.ensure_future(self._clock.sleep(PATIENCE_S))
        try:
            await asyncio.wait((asking, timer), return_when=asyncio.FIRST_COMPLETED)
        finally:
            timer.cancel()
        if not asking.done():
            self._silent.add(partition)  # until it answers, nobody waits for it again
