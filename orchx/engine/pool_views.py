"""What a pool shows of itself."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueView:
    """One service's queue. `service` is empty for calls that belong to none.

    `breaker` is closed, open or half-open; `held_ms` is how much longer a `Retry-After`
    keeps calls back; `rate_tokens` is how many calls the rate limit lets begin at once.
    """

    service: str
    queued: int
    running: int
    concurrency: int
    paused: bool = False
    breaker: str = "closed"
    breaker_open_ms: int = 0
    held_ms: int = 0
    rate_per_s: float | None = None
    rate_tokens: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunningView:
    """One running execution. Times are epoch milliseconds."""

    execution: str
    reference: str
    function: str
    service: str | None
    owner: str
    attempt: int
    started_ms: int
    heartbeat_ms: int | None


@dataclass(slots=True, kw_only=True)
class PoolStats:
    """Counts since the pool started.

    `joined` repeats met the running execution, `repeated` ones got the stored outcome;
    `refused` found no room, `circuit_open` an open breaker; `reclaimed` slots were taken
    from calls that would not end.
    """

    submitted: int = 0
    joined: int = 0
    repeated: int = 0
    refused: int = 0
    circuit_open: int = 0
    started: int = 0
    completed: int = 0
    faulted: int = 0
    timed_out: int = 0
    abandoned: int = 0
    reclaimed: int = 0
