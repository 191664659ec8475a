"""The engine as the outside sees it: what ingestion (HTTP) needs, and nothing more."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias

from orchx.domain.events import Record
from orchx.domain.messages import AnyCommand, StartWorkflow
from orchx.ports.catalog import Catalog
from orchx.ports.command_queue import Accepted
from orchx.ports.dead_letters import DeadLetters
from orchx.ports.deliveries import Deliveries
from orchx.ports.state_store import Filter, Page, WorkflowSummary


@dataclass(frozen=True, slots=True, kw_only=True)
class Readiness:
    """Whether requests can be taken, and for each part, `ok` or what is wrong."""

    ready: bool
    parts: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class AgedSummary:
    """A summary, and how long ago it is known to have held all that was durable.

    0: it does now, or nothing can change any more. None: nothing is known of that.
    """

    summary: WorkflowSummary
    age_ms: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class HistoryPage:
    """A part of a history; `more`: there is another after it."""

    records: Sequence[Record]
    more: bool


Learn: TypeAlias = Callable[[Sequence[Record]], None]


def ignore(records: Sequence[Record]) -> None:
    """Be told of records, and do nothing."""


class Gateway(Protocol):
    """Takes commands durably and answers questions."""

    @property
    def catalog(self) -> Catalog:
        """Definitions and services."""
        ...

    @property
    def deliveries(self) -> Deliveries:
        """Webhooks: what is undelivered, and its replay."""
        ...

    @property
    def dead_letters(self) -> DeadLetters | None:
        """Records that could not be read; None where nobody else could write any."""
        ...

    async def submit(self, commands: Sequence[AnyCommand]) -> Sequence[Accepted]:
        """Make commands durable, then hand them to the dispatcher.

        Admission comes first: by backlog, tenant share and, for what could not be done in
        time, deadline.

        Raises:
            Overloaded: the tenant's share of the backlog is full.
            Unavailable: the backlog is full, or the queue cannot be written now; nothing
                was accepted.
            Conflict: an id was used before with another content.
            StorageFull: the disk took no more; nothing was accepted.
        """
        ...

    async def accepted(self, command_ids: Sequence[str]) -> Mapping[str, StartWorkflow]:
        """Return the starts among these ids that were accepted before and are remembered."""
        ...

    async def wait(self, workflow_id: str, timeout_s: float) -> WorkflowSummary | None:
        """Return the summary once the workflow is terminal; None when time is up first.

        Raises:
            NotFound: no such workflow was ever accepted.
            TryLater, DriverError: it cannot be told now; that says nothing about the workflow.
        """
        ...

    async def show(self, workflow_id: str) -> WorkflowSummary:
        """Return the current summary (`pending` for an accepted start not yet run).

        Raises:
            NotFound: no such workflow was ever accepted.
        """
        ...

    async def show_aged(self, workflow_id: str, *, strong: bool = False) -> AgedSummary:
        """Return the current summary as `show` does, with its age.

        A strong one holds whatever was durable in the log when it was asked for.

        Raises:
            NotFound: no such workflow was ever accepted.
            Unavailable: a strong read cannot be had, or not in time.
        """
        ...

    async def list(self, filter_: Filter) -> Page:
        """Return one page of workflows, newest first."""
        ...

    async def history(
        self, workflow_id: str, *, after_offset: int = 0, limit: int = 1000, learn: Learn = ignore
    ) -> HistoryPage:
        """Return the next accepted records of a workflow (those of fenced owners left out).

        `learn` is given those before `after_offset`, in order and in parts.

        Raises:
            NotFound: no such workflow.
        """
        ...

    def follow(self, workflow_id: str, *, after_offset: int = 0) -> AsyncIterator[Record | None]:
        """Yield records as they become durable, until the terminal one.

        None is a heartbeat, at least every 15 s.
        """
        ...

    async def ready(self) -> Readiness:
        """Say whether a request could be taken now; what is said may be a second old."""
        ...

    async def metrics(self) -> bytes:
        """Return the Prometheus exposition of all processes."""
        ...
