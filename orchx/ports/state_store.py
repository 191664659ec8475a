"""The current state of every workflow, as a projection of the log."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol, TypeAlias

from orchx.domain.json_values import JSON

WorkflowStatus: TypeAlias = Literal[
    "pending", "running", "waiting", "suspended", "cancelled", "faulted", "completed"
]
TERMINAL: frozenset[str] = frozenset({"cancelled", "faulted", "completed"})


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkflowSummary:
    """One row of the projection. Times are epoch milliseconds.

    `due_at_ms` and `listens` (event types; `*` for any) are what wakes a passivated
    workflow; `task` is the reference of the task most recently begun. `epoch`, `owner` and
    `seq` are those of the last record that counted: with them the projector applies the
    fencing rule to what comes next. `listening` holds, for each entry of `listens`, the
    number of the task execution (frame) that listens.
    """

    workflow_id: str
    status: WorkflowStatus
    namespace: str
    name: str
    version: str
    tenant: str
    type: str | None
    priority: int
    deadline_ms: int | None
    created_at_ms: int
    updated_at_ms: int
    ended_at_ms: int | None = None
    epoch: int = 0
    owner: str = ""
    seq: int = 0
    passivated: bool = False
    due_at_ms: int | None = None
    listens: tuple[str, ...] = ()
    listening: tuple[int, ...] = ()
    task: str | None = None
    output: JSON = None
    error: Mapping[str, JSON] | None = None
    parent_id: str | None = None
    correlation_id: str | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    traceparent: str | None = None
    tasks_completed: int = 0
    tasks_faulted: int = 0
    retries: int = 0
    isolation: Literal["auto", "shared", "dedicated"] = "auto"


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """Which workflows to list; None means any. Newest first.

    `status`: any of these. `labels`: all of these keys, with these values.
    """

    status: tuple[str, ...] = ()
    namespace: str | None = None
    name: str | None = None
    tenant: str | None = None
    type: str | None = None
    created_after_ms: int | None = None
    created_before_ms: int | None = None
    labels: tuple[tuple[str, str], ...] = ()
    cursor: str | None = None
    limit: int = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """A part of a listing; `cursor` asks for the next part, None: there is none.

    A part may be shorter than its limit although another follows: it is bounded in bytes too.
    """

    workflows: Sequence[WorkflowSummary]
    cursor: str | None


class StateStore(Protocol):
    """Holds summaries, and for each partition of the log the offset up to which they are true.

    The offset never says more than the summaries. They may say more than it after a crash:
    the same records, projected once more, change nothing. Nor does a writer that has been
    replaced and does not know it yet: what stands for a later offset stays.
    """

    async def load(self, workflow_ids: Sequence[str]) -> Mapping[str, WorkflowSummary]:
        """Return the summaries that exist."""
        ...

    async def save(
        self, summaries: Sequence[WorkflowSummary], *, offset: int, partition: int = 0
    ) -> None:
        """Store summaries, then the offset of their partition; older offsets change nothing."""
        ...

    async def offset(self, partition: int = 0) -> int:
        """Return the offset up to which the projection holds; 0 for an empty one."""
        ...

    async def list(self, filter_: Filter) -> Page:
        """Return one page, newest first.

        Raises:
            InvalidRequest: the cursor is not one that this store gave.
        """
        ...

    async def unfinished(self, *, after_id: str, limit: int) -> Sequence[WorkflowSummary]:
        """Return non-terminal workflows in id order, for recovery.

        A page may be shorter than `limit` although there are more, for pages are bounded in
        bytes too. Only an empty one is the end.
        """
        ...

    async def counts(self) -> Mapping[str, int]:
        """Count workflows by status."""
        ...

    async def reset(self) -> None:
        """Drop everything, to be rebuilt from the log."""
        ...

    async def close(self) -> None:
        """Let go of the files."""
        ...
