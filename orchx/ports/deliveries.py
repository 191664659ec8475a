"""Webhook deliveries: what is on its way, what came back, what was given up."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, TypeAlias
from urllib.parse import urlsplit

EndedStatus: TypeAlias = Literal["delivered", "undelivered"]
DeliveryStatus: TypeAlias = Literal["pending"] | EndedStatus
Place: TypeAlias = tuple[int, str, int, str]
"""Where a delivery stands in listings: when it was made, workflow, position, id."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """One webhook. `id` is the `webhook-id` that the receiver sees, the same on every try.

    `position` orders the deliveries of one workflow; a later one waits for the earlier.
    Times are epoch milliseconds; `body` is the exact bytes that are signed, with the secret
    of the workflow's tenant, and sent.
    """

    id: str
    workflow_id: str
    tenant: str
    position: int
    url: str
    event_type: str
    body: bytes
    created_at_ms: int
    status: DeliveryStatus = "pending"
    attempts: int = 0
    next_attempt_at_ms: int = 0
    last_error: str | None = None
    ended_at_ms: int | None = None

    @property
    def host(self) -> str:
        """The URL's host and port, in lower case: what is down for all that go there."""
        try:
            return urlsplit(self.url).netloc.rpartition("@")[2].lower()
        except ValueError:  # no URL: the sender says so
            return ""

    @property
    def place(self) -> Place:
        """Where it stands in listings."""
        return self.created_at_ms, self.workflow_id, self.position, self.id


class Deliveries(Protocol):
    """A durable outbox, with the offset of each partition of the log it was filled up to."""

    async def add(self, deliveries: Sequence[Delivery], *, offset: int, partition: int = 0) -> None:
        """Store new deliveries, then the offset; known ids stay as they are."""
        ...

    async def offset(self, partition: int = 0) -> int:
        """Return the log offset up to which deliveries were made; 0 at first."""
        ...

    async def due(
        self, *, now_ms: int, limit: int, without_hosts: Collection[str] = ()
    ) -> Sequence[Delivery]:
        """Return pending deliveries whose time has come, the first of each workflow only.

        Those to `without_hosts` are left out, and count for nothing towards the limit: they
        cannot stand before the others.
        """
        ...

    async def update(self, deliveries: Sequence[Delivery]) -> None:
        """Store new attempts and statuses."""
        ...

    async def list(
        self,
        *,
        status: DeliveryStatus | None = None,
        workflow_id: str | None = None,
        after: Place | None = None,
        limit: int = 100,
    ) -> Sequence[Delivery]:
        """Return deliveries, oldest first: those behind `after`."""
        ...

    async def replay(self, ids: Sequence[str], *, now_ms: int) -> int:
        """Make undelivered ones pending again, due at once; return how many."""
        ...

    async def prune(self, *, status: EndedStatus, ended_before_ms: int, limit: int) -> int:
        """Forget deliveries that ended so before this time, the first first; return how many."""
        ...

    async def close(self) -> None:
        """Let go of the files."""
        ...
