"""Trying again: connections that fail, and answers that ask for patience.

It is safe for everything the client sends: submissions carry an idempotency key, events an
id, and the rest says what shall be, not what to add. What the server is silent about is tried
again for submissions alone: who gives up on one does not know whether it runs.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from orchx.client.problems import retry_after_s
from orchx.client.steps import Lost, Pause, Plan, Reply, Send, T

PASSING: Final = frozenset((429, 502, 503, 504))  # statuses that say: later
_SPREAD: Final = 0.5  # clients turned away together shall not come back together


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """How often and how patiently to try again.

    Args:
        limit: retries after the first attempt; 0 for none.
        first_delay_s: pause before the first retry; it doubles each time.
        max_delay_s: the longest pause. A server that asks for a longer one is not
            retried: its `retry_after_s` goes to the caller.
        jitter: draws from [0, 1).
    """

    limit: int = 4
    first_delay_s: float = 0.1
    max_delay_s: float = 30.0
    jitter: Callable[[], float] = random.random

    def delay_s(self, retry: int, asked_s: float | None = None) -> float | None:
        """Return the pause before retry number `retry` (from 1); None: do not try again.

        It is never shorter than what the server asked for.
        """
        if retry > self.limit or (asked_s or 0.0) > self.max_delay_s:
            return None
        backoff_s = min(self.first_delay_s * 2.0 ** (retry - 1), self.max_delay_s)
        return max(backoff_s, asked_s or 0.0) * (1 + _SPREAD * self.jitter())


def with_retries(plan: Plan[T], policy: RetryPolicy) -> Plan[T]:
    """Return the plan whose every `Send` is tried again as the policy says."""
    reply: Any = None
    try:
        while True:
            try:
                step = plan.send(reply)
            except StopIteration as stop:
                result: T = stop.value
                return result
            reply = yield step
            attempt = 0
            while isinstance(step, Send) and (asked := _asks_to_wait(step, reply)) is not None:
                attempt += 1
                delay_s = policy.delay_s(attempt, asked)
                if delay_s is None:
                    break
                yield Pause(seconds=delay_s)
                reply = yield step
    finally:
        plan.close()


def _asks_to_wait(send: Send, reply: Any) -> float | None:
    """Return the seconds to wait at least, or None if trying again is of no use."""
    if not send.retry:
        return None
    if isinstance(reply, Lost):
        # Asking again whom the first question keeps busy adds to its load, for an answer only.
        return None if reply.silent and not send.retry_silence else 0.0
    if isinstance(reply, Reply) and reply.status in PASSING:
        return retry_after_s(reply.headers) or 0.0
    return None
