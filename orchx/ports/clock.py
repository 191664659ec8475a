"""Time, as something that a test can move."""

from __future__ import annotations

from typing import Protocol


class Clock(Protocol):
    """Wall-clock time, time that only grows, and waiting.

    The wall's time is for what is recorded, shown, or due at a date; somebody may set it at any
    moment, forwards or backwards. Whatever is measured (a lease, a silence, a pause) is measured
    in ticks, which mean nothing outside of this process.
    """

    def now_ms(self) -> int:
        """Return the time in milliseconds since the Unix epoch."""
        ...

    def ticks_ms(self) -> int:
        """Return milliseconds since some moment; greater than 0, and never less than before."""
        ...

    async def sleep(self, delay_s: float) -> None:
        """Return after `delay_s` seconds, measured in ticks."""
        ...
