"""When a service fails again and again, stop asking it for a while.

Closed: calls go through; `failures_to_open` failures in a row open it. Open: no call goes
through until `open_ms` have passed. Half-open: one call, the probe, goes through; its
result closes the breaker or opens it again.
Source: M. Nygard, "Release It!"; time is an argument, so that a test can move it.
"""

from __future__ import annotations

import enum


class BreakerState(enum.StrEnum):
    """Where a breaker stands."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half-open"


class Verdict(enum.Enum):
    """What one call says of its service."""

    SUCCESS = enum.auto()
    FAILURE = enum.auto()
    NOTHING = enum.auto()  # the call was given up, or never reached the service


class CircuitBreaker:
    """The breaker of one service.

    Args:
        failures_to_open: how many failures in a row open it, from 1.
        open_ms: how long it stays open before one call may probe.
    """

    __slots__ = ("_failures", "_failures_to_open", "_open_ms", "_open_until_ms", "_probing")

    def __init__(self, failures_to_open: int, open_ms: int) -> None:
        self._failures = 0
        self._open_until_ms: int | None = None
        self._probing = False
        self.configure(failures_to_open, open_ms)

    def configure(self, failures_to_open: int, open_ms: int) -> None:
        """Change the limits; the state stays."""
        self._failures_to_open = max(1, failures_to_open)
        self._open_ms = max(1, open_ms)

    def state(self, now_ms: int) -> BreakerState:
        """Return the state at `now_ms`."""
        if self._open_until_ms is None:
            return BreakerState.CLOSED
        if self._probing or now_ms >= self._open_until_ms:
            return BreakerState.HALF_OPEN
        return BreakerState.OPEN

    @property
    def is_closed(self) -> bool:
        """Tell whether everything goes through."""
        return self._open_until_ms is None

    @property
    def is_probing(self) -> bool:
        """Tell whether a probe is under way."""
        return self._probing

    def open_for_ms(self, now_ms: int) -> int:
        """Return for how long no call goes through; 0 unless open."""
        if self._open_until_ms is None or self._probing:
            return 0
        return max(0, self._open_until_ms - now_ms)

    def begin(self, now_ms: int) -> bool:
        """Note that a call begins; return whether it is the probe.

        The caller asks `state` and `is_probing` first: nothing begins while open, nor
        beside a probe.
        """
        if self._open_until_ms is None:
            return False
        self._probing = True
        return True

    def end(self, verdict: Verdict, *, probe: bool, now_ms: int) -> bool:
        """Note how a call ended; return whether this opened the breaker (again)."""
        if self._open_until_ms is not None:
            return probe and self._end_probe(verdict, now_ms)
        if verdict is Verdict.SUCCESS:
            self._failures = 0
        elif verdict is Verdict.FAILURE:
            self._failures += 1
            if self._failures >= self._failures_to_open:
                self._open_until_ms = now_ms + self._open_ms
                return True
        return False

    def _end_probe(self, verdict: Verdict, now_ms: int) -> bool:
        self._probing = False
        if verdict is Verdict.SUCCESS:
            self._failures = 0
            self._open_until_ms = None
        elif verdict is Verdict.FAILURE:
            self._open_until_ms = now_ms + self._open_ms
            return True
        return False  # a probe that was given up: the next call probes
