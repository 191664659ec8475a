"""The machine's clocks."""

from __future__ import annotations

import asyncio
import time


class SystemClock:
    """A `Clock` that tells the machine's time."""

    def now_ms(self) -> int:
        """Return the milliseconds since the Unix epoch."""
        return time.time_ns() // 1_000_000

    def ticks_ms(self) -> int:
        """Return the milliseconds since the machine was started."""
        return time.monotonic_ns() // 1_000_000

    async def sleep(self, delay_s: float) -> None:
        """Return after `delay_s` seconds."""
        await asyncio.sleep(delay_s)
