"""Many due times, one sleeper: alarms that cost next to nothing when they never ring.

Nearly every call ends before its deadline, so setting and clearing an alarm has to be
cheap: alarms of one tick share a bucket, and a single asyncio task sleeps until the first
bucket that is not empty. Alarms ring up to `TICK_MS` late, never early.
"""

from __future__ import annotations

import asyncio
import heapq
import logging
from collections.abc import Callable
from typing import Final, Generic, Protocol, TypeVar

from orchx.ports.clock import Clock

TICK_MS: Final = 8

_log = logging.getLogger(__name__)


class HasAlarm(Protocol):
    """Something with at most one alarm; the wheel keeps the alarm's tick in it (0: none)."""

    alarm_tick: int


ItemT = TypeVar("ItemT", bound=HasAlarm)


class AlarmWheel(Generic[ItemT]):
    """Calls `ring(item)` once an item's due time has come. For one event loop.

    Args:
        clock: tells the time and sleeps.
        ring: called in the event loop, outside any coroutine of the caller. What it raises is
            logged, and keeps no other alarm from ringing.
    """

    def __init__(self, clock: Clock, ring: Callable[[ItemT], None]) -> None:
        self._clock = clock
        self._ring = ring
        self._buckets: dict[int, dict[ItemT, None]] = {}
        self._ticks: list[int] = []
        self._sleeping_until = 0
        self._sleeper: asyncio.Task[None] | None = None

    def __len__(self) -> int:
        return sum(map(len, self._buckets.values()))

    def set(self, item: ItemT, due_ms: int) -> None:
        """Ring for `item` at `due_ms`, of the clock's ticks,, and at no other time."""
        tick = -(-due_ms // TICK_MS)
        if item.alarm_tick:
            if item.alarm_tick == tick:
                return
            self.clear(item)
        item.alarm_tick = tick
        bucket = self._buckets.get(tick)
        if bucket is not None:
            bucket[item] = None
            return
        self._buckets[tick] = {item: None}
        heapq.heappush(self._ticks, tick)
        if self._sleeper is None:
            self._sleep_until(tick)
        elif tick < self._sleeping_until:
            self._sleeper.cancel()
            self._sleep_until(tick)

    def clear(self, item: ItemT) -> None:
        """Forget the item's alarm, if it has one."""
        tick = item.alarm_tick
        if tick:
            item.alarm_tick = 0
            bucket = self._buckets[tick]
            del bucket[item]
            if not bucket:
                del self._buckets[tick]  # its number stays in the heap and is skipped there

    def close(self) -> None:
        """Forget everything."""
        if self._sleeper is not None:
            self._sleeper.cancel()
            self._sleeper = None
        for bucket in self._buckets.values():
            for item in bucket:
                item.alarm_tick = 0
        self._buckets.clear()
        self._ticks.clear()

    def _sleep_until(self, tick: int) -> None:
        self._sleeping_until = tick
        self._sleeper = asyncio.get_running_loop().create_task(
            self._sleep(), name="orchx-alarm-wheel"
        )

    async def _sleep(self) -> None:
        while (tick := self._first_tick()) is not None:
            self._sleeping_until = tick
            wait_ms = tick * TICK_MS - self._clock.ticks_ms()
            if wait_ms > 0:
                await self._clock.sleep(wait_ms / 1_000)
                continue
            # one at a time: what one alarm does may clear another of the same tick
            item = next(iter(self._buckets[tick]))
            self.clear(item)
            try:
                self._ring(item)
            except Exception:  # the sleeper's edge: all timeouts hang on its going on
                _log.exception("an alarm failed: %r", item)
        self._sleeper = None

    def _first_tick(self) -> int | None:
        ticks = self._ticks
        while ticks:
            if ticks[0] in self._buckets:
                return ticks[0]
            heapq.heappop(ticks)
        return None
