"""A clock that stands still until a test moves it."""

from __future__ import annotations

import asyncio
import heapq
from itertools import count
from typing import Final

SETTLE_TURNS: Final = 10
START_TICKS_MS: Final = 5_000_000


class VirtualClock:
    """A `Clock` whose time passes only in `advance`; sleepers wake in the order they are due."""

    def __init__(self, start_ms: int = 1_700_000_000_000) -> None:
        """Start at `start_ms`, epoch milliseconds."""
        self._now_ns = START_TICKS_MS * 1_000_000
        self._wall_ms = start_ms - START_TICKS_MS  # ahead of the ticks
        self._order = count()
        self._sleepers: list[tuple[int, int, asyncio.Future[None]]] = []

    def now_ms(self) -> int:
        """Return this clock's time in epoch milliseconds."""
        return self._wall_ms + self.ticks_ms()

    def ticks_ms(self) -> int:
        """Return what has passed, in milliseconds, from `START_TICKS_MS` on."""
        return self._now_ns // 1_000_000

    def set_wall(self, delta_s: float) -> None:
        """Move the wall's time alone, as an operator does who sets a clock."""
        self._wall_ms += round(delta_s * 1000)

    async def sleep(self, delay_s: float) -> None:
        """Return once the clock was moved by `delay_s` seconds; at once for 0 or less."""
        if delay_s <= 0:
            await asyncio.sleep(0)
            return
        woken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        due_ns = self._now_ns + round(delay_s * 1e9)
        heapq.heappush(self._sleepers, (due_ns, next(self._order), woken))
        await woken

    def next_due_ms(self) -> int | None:
        """Return when the first sleeper is due (rounded up), None if nobody sleeps."""
        self._forget_cancelled()
        return self._wall_ms - (-self._sleepers[0][0] // 1_000_000) if self._sleepers else None

    async def advance(self, delay_s: float) -> None:
        """Move on by `delay_s` seconds.

        Stops at each sleeper on the way and lets the loop turn `SETTLE_TURNS` times, so that
        what a sleeper does, such as sleeping again, happens at its own time.
        """
        until_ns = self._now_ns + round(delay_s * 1e9)
        await self._settle()
        while True:
            self._forget_cancelled()
            if not self._sleepers or self._sleepers[0][0] > until_ns:
                break
            due_ns, _, woken = heapq.heappop(self._sleepers)
            self._now_ns = due_ns
            woken.set_result(None)
            await self._settle()
        self._now_ns = until_ns
        await self._settle()

    def _forget_cancelled(self) -> None:
        while self._sleepers and self._sleepers[0][2].done():
            heapq.heappop(self._sleepers)

    async def _settle(self) -> None:
        for _ in range(SETTLE_TURNS):
            await asyncio.sleep(0)
