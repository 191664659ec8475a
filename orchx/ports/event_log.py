"""The event log: the only truth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from orchx.domain.events import AnyEvent, Record


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """An owner's wish to own a workflow.

    `opening` are events to append right after the activation if, and only if, the
    workflow has no history yet (so that a new workflow costs one commit, not two);
    `definition` is the pinned document those events name, as canonical JSON.
    """

    workflow_id: str
    owner: str
    at_ms: int
    opening: Sequence[AnyEvent] = ()
    traceparent: str | None = None
    digest: str | None = None
    definition: bytes | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Claimed:
    """What a claim brought: the epoch that was tried and the history up to it.

    `history` holds every record of the workflow, in log order, up to and including the
    claim's own (and its opening events if they were appended: `opened`). Whether the
    claim won is for the fold to say.
    """

    epoch: int
    history: Sequence[Record]
    opened: bool


class EventLog(Protocol):
    """Append-only, durable, ordered per workflow. Safe for many tasks of one event loop.

    It has one partition or several, numbered from 0. All records of a workflow stand in the
    same one, in order; offsets count within a partition, from 1, and may have holes.
    """

    async def append(self, records: Sequence[Record]) -> None:
        """Append; on return the records are durable, each in its partition.

        The records of one workflow stand in the log together, or not at all. Records of
        concurrent calls are committed together.

        Raises:
            StorageFull: the disk took no more; nothing was appended.
            Unavailable: too much waits to be appended already; nothing was appended.
            DriverError: the log failed; whether anything was appended is unknown.
        """
        ...

    async def claim(self, claim: Claim) -> Claimed:
        """Append `activated{epoch: highest + 1}` and return the history up to it.

        Raises:
            StorageFull, DriverError: as for `append`.
        """
        ...

    async def read(
        self, workflow_id: str, *, after_offset: int = 0, limit: int | None = None
    ) -> Sequence[Record]:
        """Return records of the workflow in log order, those of fenced owners too.

        With a `limit`, a page: it may hold fewer although there are more, for pages are
        bounded in bytes too. Only an empty page is the end. Without one, all of them.
        """
        ...

    async def epochs(self, workflow_ids: Sequence[str]) -> Mapping[str, int]:
        """Return the highest epoch that anyone has activated, of each workflow that has one.

        Whatever stood in the log before an append of this process that is durable is counted.
        """
        ...

    async def partitions(self) -> int:
        """Return how many partitions there are; at least 1."""
        ...

    async def tail(self, after_offset: int, *, limit: int, partition: int = 0) -> Sequence[Record]:
        """Return up to `limit` records after an offset, in log order (empty: no more yet).

        It may be fewer although there are more: pages are bounded in bytes too.
        """
        ...

    async def last_offset(self, partition: int = 0) -> int:
        """Return the offset of the last durable record; 0 if there is none."""
        ...

    async def definition(self, digest: str) -> bytes | None:
        """Return the canonical JSON of the plan pinned under this digest."""
        ...

    async def close(self) -> None:
        """Commit what is under way and let go of the files."""
        ...
