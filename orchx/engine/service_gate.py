"""The limits of one service, together: may its next call begin?"""

from __future__ import annotations

from typing import Final

from orchx.domain.faults import COMMUNICATION, TIMEOUT, Fault
from orchx.domain.messages import TaskOutcome
from orchx.domain.services import Service
from orchx.engine.call_leases import CallLeases
from orchx.engine.circuit_breaker import CircuitBreaker, Verdict
from orchx.engine.pool_entry import PoolEntry, PriorityQueue
from orchx.engine.pool_views import QueueView
from orchx.engine.rate_limiter import RateLimiter

MAX_HOLD_MS: Final = 300_000
"""No `Retry-After` holds a service's calls back for longer than this."""

NO_WAKE: Final = -1
"""Waiting for something that tells by itself: a lease given back, a resume, a probe's end."""


class ServiceGate:
    """Queue, leases, rate, breaker and `Retry-After` of one service. For one event loop."""

    __slots__ = (
        "_rate",
        "alarm_tick",
        "breaker",
        "held_until_ms",
        "is_paused",
        "leases",
        "queue",
        "service",
    )

    def __init__(self, service: Service, now_ms: int) -> None:
        self.queue = PriorityQueue()
        self.leases = CallLeases(service.concurrency)
        self.breaker = CircuitBreaker(service.breaker_failures, service.breaker_open_ms)
        self.held_until_ms = 0
        self.is_paused = False
        self.alarm_tick = 0
        self._rate: RateLimiter | None = None
        self.service = service
        self.configure(service, now_ms)

    def configure(self, service: Service, now_ms: int) -> None:
        """Take new limits; what waits and runs stays."""
        rate_per_s = service.rate_per_s
        if rate_per_s is None or rate_per_s <= 0:
            self._rate = None
        elif self._rate is None or self._rate.rate_per_s != rate_per_s:
            self._rate = RateLimiter(rate_per_s, now_ms)
        self.leases.limit = max(1, service.concurrency)
        self.breaker.configure(service.breaker_failures, service.breaker_open_ms)
        self.service = service

    def refusal_ms(self, now_ms: int) -> int:
        """Return for how long calls fail at once because the breaker is open; 0: they do not."""
        if self.breaker.is_closed or self.is_paused:
            return 0
        return self.breaker.open_for_ms(now_ms)

    def wait_ms(self, now_ms: int) -> int:
        """Return in how many milliseconds to ask again for the next call.

        0 means that it may begin now, `NO_WAKE` that something else will tell.
        """
        if self.is_paused or self.breaker.is_probing or self.leases.is_full(now_ms):
            return NO_WAKE
        if self.held_until_ms > now_ms:
            return self.held_until_ms - now_ms
        return self._rate.wait_ms(now_ms) if self._rate is not None else 0

    def begin(self, entry: PoolEntry, lease_until_ms: int, now_ms: int) -> None:
        """Let a call begin; `wait_ms` has said that it may."""
        self.leases.take(entry, lease_until_ms, now_ms)
        if self._rate is not None:
            self._rate.take(now_ms)
        if not self.breaker.is_closed:
            entry.is_probe = self.breaker.begin(now_ms)

    def vacate(self, entry: PoolEntry) -> None:
        """Give a call's slot back."""
        self.leases.give_back(entry)

    def judge(self, entry: PoolEntry, outcome: TaskOutcome | None, now_ms: int) -> bool:
        """Learn from how a call ended (None: given up); return whether the breaker opened."""
        verdict = Verdict.NOTHING if outcome is None else verdict_on(outcome.error)
        error = outcome.error if outcome is not None else None
        if error is not None and error.retry_after_ms and error.status in (429, 503):
            hold_ms = min(error.retry_after_ms, MAX_HOLD_MS)
            self.held_until_ms = max(self.held_until_ms, now_ms + hold_ms)
        return self.breaker.end(verdict, probe=entry.is_probe, now_ms=now_ms)

    def view(self, now_ms: int) -> QueueView:
        """Describe the gate for people."""
        return QueueView(
            service=self.service.name,
            queued=len(self.queue),
            running=len(self.leases),
            concurrency=self.leases.limit,
            paused=self.is_paused,
            breaker=str(self.breaker.state(now_ms)),
            breaker_open_ms=self.breaker.open_for_ms(now_ms),
            held_ms=max(0, self.held_until_ms - now_ms),
            rate_per_s=self._rate.rate_per_s if self._rate is not None else None,
            rate_tokens=self._rate.tokens(now_ms) if self._rate is not None else None,
        )


def verdict_on(error: Fault | None) -> Verdict:
    """Say whether a service failed: no answer, no sense or 5xx. A 4xx is the caller's fault."""
    if error is None:
        return Verdict.SUCCESS
    if error.type == TIMEOUT:
        return Verdict.FAILURE
    if error.type == COMMUNICATION:
        return Verdict.FAILURE if error.status >= 500 else Verdict.SUCCESS
    return Verdict.NOTHING
