"""Whether a `try` block runs again, and when.

Source: Serverless Workflow DSL 1.0.3, "Retry". `limit.attempt.count` counts retries: with
5, a block that always fails runs six times.
"""

from __future__ import annotations

from orchx.domain.data_flow import Scope
from orchx.domain.document import RetryPolicy
from orchx.domain.faults import Fault
from orchx.domain.json_values import JSON
from orchx.domain.state import Frame

# A policy without a limit and without a delay must not spin.
MIN_UNLIMITED_DELAY_MS = 100
MAX_RETRY_DELAY_MS = 30 * 24 * 3600 * 1000


def retry_due_ms(scope: Scope, policy: RetryPolicy, frame: Frame, error: Fault) -> int | None:
    """Return when to run the block again (epoch milliseconds), or None: not again.

    Args:
        scope: evaluates the policy's expressions; its `$error` is set.
        policy: the policy in force.
        frame: the `try` task; `attempt` is the run that just failed, from 1.
        error: what it failed with; its `retry_after_ms` is the least delay.
    """
    data = frame.input
    if policy.when is not None and not scope.holds(policy.when, data):
        return None
    if policy.except_when is not None and scope.holds(policy.except_when, data):
        return None
    if policy.limit_attempts is not None and frame.attempt > policy.limit_attempts:
        return None
    asked_ms = min(error.retry_after_ms or 0, MAX_RETRY_DELAY_MS)
    delay_ms = max(retry_delay_ms(scope, policy, frame.attempt, data), asked_ms)
    due_ms = scope.turn.env.now_ms + delay_ms
    if policy.limit_duration is not None:
        last_ms = frame.started_at_ms + scope.duration_ms(policy.limit_duration, data)
        if due_ms > last_ms:
            return None
    return due_ms


def retry_delay_ms(scope: Scope, policy: RetryPolicy, retry: int, data: JSON) -> int:
    """Return the pause before retry number `retry` (from 1), in milliseconds."""
    base_ms = scope.duration_ms(policy.delay, data)
    delay_ms: float = base_ms
    if policy.backoff == "linear":
        step_ms = base_ms
        if policy.backoff_increment is not None:
            step_ms = scope.duration_ms(policy.backoff_increment, data)
        delay_ms = base_ms + step_ms * (retry - 1)
    elif policy.backoff == "exponential":
        # 2**64 ms is over any limit: keep the power in the range of a float.
        delay_ms = base_ms * min(policy.backoff_factor ** min(retry - 1, 64), 2.0**64)
    if policy.max_delay is not None:
        delay_ms = min(delay_ms, scope.duration_ms(policy.max_delay, data))
    if policy.jitter_to is not None:
        low_ms = scope.duration_ms(policy.jitter_from, data) if policy.jitter_from else 0
        high_ms = scope.duration_ms(policy.jitter_to, data)
        delay_ms += low_ms + (high_ms - low_ms) * scope.turn.env.draw()
    unlimited = policy.limit_attempts is None and policy.limit_duration is None
    floor_ms = MIN_UNLIMITED_DELAY_MS if unlimited else 0
    return int(min(max(delay_ms, floor_ms), MAX_RETRY_DELAY_MS))
