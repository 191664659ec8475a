"""Current states where they are found at once. Whatever it loses, the state store has."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

from orchx.ports.state_store import WorkflowSummary

LOOKUP_MAX: Final = 1_000
"""Workflows in one `get` or `fill`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheView:
    """What the cache knows of some workflows of one partition of the log, at one moment.

    Each summary in `found` tells of every change up to `offset` of the log, or of later ones
    too; whoever writes the cache said so `age_ms` milliseconds ago. With the `lease`, and for
    a short while, summaries of those that are not `found` may be filled in.
    """

    offset: int
    age_ms: int
    found: Mapping[str, WorkflowSummary] = field(default_factory=dict)
    lease: str


class StateCache(Protocol):
    """Summaries by partition and workflow. It may forget any of them at any time.

    All raise `DriverError`, `StorageFull` or `Unavailable` where the cache cannot be used.
    """

    async def get(self, workflow_ids: Sequence[str], *, partition: int) -> CacheView | None:
        """Look workflows of a partition up; None: nothing can be said of that partition."""
        ...

    async def fill(
        self, summaries: Sequence[WorkflowSummary], *, partition: int, lease: str
    ) -> None:
        """Keep what was read from the store after the `get` that gave the lease.

        A workflow that was put meanwhile, or leased to someone else before, stays as it is.
        """
        ...

    async def put(
        self, summaries: Sequence[WorkflowSummary], *, after: int, offset: int, partition: int
    ) -> None:
        """Keep what changed in a partition between two offsets of the log.

        The state store has it already. If this goes on from the last put of this process
        (`after` is its `offset`), the summaries from before stay true; else they are forgotten,
        and so they are after a failure. Without summaries and with `after` equal to `offset`
        it confirms that nothing has changed.
        """
        ...

    async def clear(self, partition: int | None = None) -> None:
        """Forget the summaries of a partition, or of all."""
        ...

    async def close(self) -> None:
        """Let go of the connections."""
        ...
