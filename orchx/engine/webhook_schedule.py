"""When a webhook is tried again, and when it is given up: pure.

Giving up is counted in attempts, as many as fit into the time given, and not by the clock:
orchx being down for a weekend, or an earlier webhook of the same workflow taking its whole
day, must not cost a webhook its attempts.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

from orchx.engine.webhook_sending import Answer
from orchx.ports.deliveries import Delivery

LONGEST_DELAY_MS: Final = 3_600_000
"""Between two attempts; only a receiver's own Retry-After may ask for longer."""

JITTER: Final = 0.2
"""A delay is drawn within this part of itself, either way, so that retries spread out."""

GONE: Final = 410
ERROR_CHARS: Final = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class RetrySchedule:
    """Exponential backoff from `first_delay_ms` for about `give_up_after_s`.

    `draw` returns a random number in [0, 1).
    """

    first_delay_ms: int
    give_up_after_s: float
    draw: Callable[[], float]

    @property
    def attempts_limit(self) -> int:
        """How many attempts fit into `give_up_after_s` when no jitter is drawn; at least 1."""
        left_ms = self.give_up_after_s * 1000
        attempts = 1
        delay_ms = min(self.first_delay_ms, LONGEST_DELAY_MS)
        while delay_ms < LONGEST_DELAY_MS and delay_ms <= left_ms:
            left_ms -= delay_ms
            attempts += 1
            delay_ms = min(2 * delay_ms, LONGEST_DELAY_MS)
        if delay_ms == LONGEST_DELAY_MS:
            attempts += int(left_ms // LONGEST_DELAY_MS)
        return attempts

    def delay_ms(self, attempts: int) -> int:
        """Return the pause after that many failed attempts (1 or more), with jitter."""
        doublings = min(attempts - 1, 40)  # beyond, the limit below holds anyway
        nominal: float = min(self.first_delay_ms * 2.0**doublings, LONGEST_DELAY_MS)
        drawn = nominal * (1 - JITTER + 2 * JITTER * self.draw())
        return max(1, min(round(drawn), LONGEST_DELAY_MS))

    def after(self, delivery: Delivery, answer: Answer, now_ms: int) -> Delivery:
        """Return the delivery as it stands after an attempt that ended at `now_ms`."""
        attempts = delivery.attempts + 1
        if answer.status is not None and 200 <= answer.status < 300:
            return replace(
                delivery,
                status="delivered",
                attempts=attempts,
                last_error=None,
                ended_at_ms=now_ms,
            )
        error = (answer.error or f"the receiver answered {answer.status}")[:ERROR_CHARS]
        if answer.refused or answer.status == GONE or attempts >= self.attempts_limit:
            return replace(
                delivery,
                status="undelivered",
                attempts=attempts,
                last_error=error,
                ended_at_ms=now_ms,
            )
        delay_ms = self.delay_ms(attempts)
        if answer.retry_after_s is not None:
            delay_ms = max(delay_ms, self._asked_ms(delivery, answer.retry_after_s, now_ms))
        return replace(
            delivery, attempts=attempts, last_error=error, next_attempt_at_ms=now_ms + delay_ms
        )

    def _asked_ms(self, delivery: Delivery, retry_after_s: float, now_ms: int) -> int:
        """Return the pause that the receiver asked for, shortened if it would take us too long."""
        left_ms = delivery.created_at_ms + self.give_up_after_s * 1000 - now_ms
        return round(min(max(retry_after_s, 0.0) * 1000, max(left_ms, LONGEST_DELAY_MS)))
