"""How many calls may begin per second: a token bucket.

Source: the token bucket of ITU-T I.371; time is an argument, so that a test can move it.
"""

from __future__ import annotations

import math
from typing import Final

BURST_S: Final = 0.1


class RateLimiter:
    """Lets `rate_per_s` calls begin per second, in bursts of at most a tenth of that.

    In any span of `s` seconds at most `rate_per_s * s + burst` calls begin, where `burst`
    is `max(1, rate_per_s / 10)`: evenly enough that a service that counts per second does
    not notice the bucket.
    """

    __slots__ = ("_tokens", "_updated_ms", "burst", "rate_per_s")

    def __init__(self, rate_per_s: float, now_ms: int) -> None:
        if not rate_per_s > 0:
            raise ValueError(f"rate_per_s must be above 0, not {rate_per_s}")
        self.rate_per_s = rate_per_s
        self.burst = max(1.0, rate_per_s * BURST_S)
        self._tokens = self.burst
        self._updated_ms = now_ms

    def tokens(self, now_ms: int) -> float:
        """Return how many calls may begin at once now."""
        elapsed_ms = now_ms - self._updated_ms
        if elapsed_ms > 0:
            self._tokens = min(self.burst, self._tokens + elapsed_ms * self.rate_per_s / 1_000)
        # A wall clock may be set back: time then starts anew, and no token is made up.
        self._updated_ms = now_ms
        return self._tokens

    def wait_ms(self, now_ms: int) -> int:
        """Return after how many milliseconds the next call may begin; 0: now."""
        missing = 1.0 - self.tokens(now_ms)
        return math.ceil(missing * 1_000 / self.rate_per_s) if missing > 1e-9 else 0

    def take(self, now_ms: int) -> bool:
        """Begin a call, if one may begin now."""
        if self.wait_ms(now_ms):
            return False
        self._tokens = max(0.0, self._tokens - 1.0)
        return True
