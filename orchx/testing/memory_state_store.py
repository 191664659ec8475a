"""The state store in memory, for tests; shared by all simulated processes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Final

from orchx.errors import InvalidRequest
from orchx.ports.state_store import TERMINAL, Filter, Page, WorkflowSummary
from orchx.testing.memory_io import OnIo, reach

PAGE_MAX: Final = 1_000


class MemoryStateStore:
    """A `StateStore` that yields before a write is durable, and after.

    And in between: where no transaction spans them, a crash leaves summaries without their offset.
    """

    def __init__(self, on_io: OnIo | None = None) -> None:
        """Start empty; `on_io` is called around every write."""
        self._on_io = on_io
        self._summaries: dict[str, WorkflowSummary] = {}
        self._true_up_to: dict[str, int] = {}  # offsets, by workflow
        self._offsets: dict[int, int] = {}

    async def load(self, workflow_ids: Sequence[str]) -> Mapping[str, WorkflowSummary]:
        """Return the summaries that exist."""
        return {key: self._summaries[key] for key in workflow_ids if key in self._summaries}

    async def save(
        self, summaries: Sequence[WorkflowSummary], *, offset: int, partition: int = 0
    ) -> None:
        """Store summaries and the offset; an offset not above the stored one changes nothing."""
        taken = tuple(summaries)
        await reach(self._on_io, "state_store.save:before")
        if offset > self._offsets.get(partition, 0):
            for summary in taken:
                self._keep(summary, offset)
            await reach(self._on_io, "state_store.save:between")
            self._offsets[partition] = max(offset, self._offsets.get(partition, 0))
        await reach(self._on_io, "state_store.save:after")

    def _keep(self, summary: WorkflowSummary, offset: int) -> None:
        """Keep a summary, unless a writer that has replaced this one has kept a later one."""
        if offset >= self._true_up_to.get(summary.workflow_id, 0):
            self._summaries[summary.workflow_id] = summary
            self._true_up_to[summary.workflow_id] = offset

    async def offset(self, partition: int = 0) -> int:
        """Return the offset up to which the projection holds."""
        return self._offsets.get(partition, 0)

    async def list(self, filter_: Filter) -> Page:
        """Return one page, newest first."""
        limit = min(max(filter_.limit, 1), PAGE_MAX)
        below = None if filter_.cursor is None else _position_of(filter_.cursor)
        found = [
            summary
            for summary in sorted(self._summaries.values(), key=_position, reverse=True)
            if _matches(summary, filter_) and (below is None or _position(summary) < below)
        ]
        page = found[:limit]
        return Page(workflows=page, cursor=_cursor_at(page[-1]) if len(found) > limit else None)

    async def unfinished(self, *, after_id: str, limit: int) -> Sequence[WorkflowSummary]:
        """Return non-terminal workflows in id order."""
        found = [
            self._summaries[key]
            for key in sorted(self._summaries)
            if key > after_id and self._summaries[key].status not in TERMINAL
        ]
        return found[: max(limit, 0)]

    async def counts(self) -> Mapping[str, int]:
        """Count workflows by status."""
        return dict(Counter(summary.status for summary in self._summaries.values()))

    async def reset(self) -> None:
        """Drop everything, to be rebuilt from the log."""
        await reach(self._on_io, "state_store.reset:before")
        self._summaries.clear()
        self._true_up_to.clear()
        self._offsets.clear()
        await reach(self._on_io, "state_store.reset:after")

    async def close(self) -> None:
        """Do nothing: another simulated process may still use it."""


def _matches(summary: WorkflowSummary, filter_: Filter) -> bool:
    def same(wanted: str | None, found: str | None) -> bool:
        return wanted is None or wanted == found

    after, before, created = filter_.created_after_ms, filter_.created_before_ms, summary
    return (
        (not filter_.status or summary.status in filter_.status)
        and same(filter_.namespace, summary.namespace)
        and same(filter_.name, summary.name)
        and same(filter_.tenant, summary.tenant)
        and same(filter_.type, summary.type)
        and (after is None or created.created_at_ms > after)
        and (before is None or created.created_at_ms < before)
        and set(filter_.labels) <= set(summary.labels.items())
    )


def _position(summary: WorkflowSummary) -> tuple[int, str]:
    return summary.created_at_ms, summary.workflow_id


def _cursor_at(summary: WorkflowSummary) -> str:
    return f"{summary.created_at_ms}:{summary.workflow_id}"


def _position_of(cursor: str) -> tuple[int, str]:
    created_at_ms, colon, workflow_id = cursor.partition(":")
    if not colon or not created_at_ms.isdecimal():
        raise InvalidRequest(f"not a cursor of this listing: {cursor[:100]!r}")
    return int(created_at_ms), workflow_id
