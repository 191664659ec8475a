"""The event log in memory, for tests; shared by all simulated processes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import islice
from zlib import crc32

import msgspec

from orchx.domain.events import Record, WorkflowActivated
from orchx.ports.event_log import Claim, Claimed
from orchx.testing.memory_io import OnIo, reach


class MemoryEventLog:
    """An `EventLog` that yields once before a write is durable, and once after."""

    def __init__(self, on_io: OnIo | None = None, *, partitions: int = 1) -> None:
        """Start empty, with that many partitions; `on_io` is called around every write."""
        self._on_io = on_io
        self._partitions: list[list[Record]] = [[] for _ in range(partitions)]
        self._by_workflow: dict[str, list[Record]] = {}
        self._definitions: dict[str, bytes] = {}

    async def append(self, records: Sequence[Record]) -> None:
        """Append all of them at once."""
        taken = tuple(records)
        await reach(self._on_io, "event_log.append:before")
        for record in taken:
            self._store(record)
        await reach(self._on_io, "event_log.append:after")

    async def claim(self, claim: Claim) -> Claimed:
        """Append `activated{epoch: highest + 1}` and return the history up to it."""
        await reach(self._on_io, "event_log.claim:before")
        history = self._by_workflow.get(claim.workflow_id, [])
        new = not history
        epochs = (r.epoch for r in history if isinstance(r.event, WorkflowActivated))
        epoch = max(epochs, default=0) + 1
        events = [WorkflowActivated(), *(claim.opening if new else ())]
        for seq, event in enumerate(events):
            self._store(
                Record(
                    workflow_id=claim.workflow_id,
                    epoch=epoch,
                    owner=claim.owner,
                    seq=seq,
                    at_ms=claim.at_ms,
                    event=event,
                    traceparent=claim.traceparent,
                )
            )
        if new and claim.digest is not None and claim.definition is not None:
            self._definitions.setdefault(claim.digest, claim.definition)
        claimed = Claimed(
            epoch=epoch,
            history=tuple(self._by_workflow[claim.workflow_id]),
            opened=new and bool(claim.opening),
        )
        await reach(self._on_io, "event_log.claim:after")
        return claimed

    async def read(
        self, workflow_id: str, *, after_offset: int = 0, limit: int | None = None
    ) -> Sequence[Record]:
        """Return records of the workflow in log order."""
        records = self._by_workflow.get(workflow_id, ())
        later = (record for record in records if record.offset > after_offset)
        return list(islice(later, None if limit is None else max(limit, 0)))

    async def epochs(self, workflow_ids: Sequence[str]) -> Mapping[str, int]:
        """Return the highest epoch of each workflow that has one."""
        found: dict[str, int] = {}
        for workflow_id in workflow_ids:
            for record in self._by_workflow.get(workflow_id, ()):
                if isinstance(record.event, WorkflowActivated):
                    found[workflow_id] = max(found.get(workflow_id, 0), record.epoch)
        return found

    async def partitions(self) -> int:
        """Return how many there are."""
        return len(self._partitions)

    async def tail(self, after_offset: int, *, limit: int, partition: int = 0) -> Sequence[Record]:
        """Return up to `limit` records after an offset, in log order."""
        first = max(after_offset, 0)  # offsets count from 1, without a gap
        return self._partitions[partition][first : first + max(limit, 0)]

    async def last_offset(self, partition: int = 0) -> int:
        """Return the offset of the last record; 0 if there is none."""
        return len(self._partitions[partition])

    async def definition(self, digest: str) -> bytes | None:
        """Return the plan pinned under this digest."""
        return self._definitions.get(digest)

    async def close(self) -> None:
        """Do nothing: another simulated process may still use it."""

    def _store(self, record: Record) -> Record:
        number = crc32(record.workflow_id.encode()) % len(self._partitions)
        partition = self._partitions[number]
        stored = msgspec.structs.replace(record, offset=len(partition) + 1)
        partition.append(stored)
        self._by_workflow.setdefault(record.workflow_id, []).append(stored)
        return stored
