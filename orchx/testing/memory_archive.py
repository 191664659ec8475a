"""The archive of the log's past in memory, for tests; shared by all simulated processes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import islice

from orchx.domain.events import Record, WorkflowActivated
from orchx.testing.memory_io import OnIo, reach


class MemoryArchive:
    """An `Archive` that yields before a write is durable, in between, and after."""

    def __init__(self, on_io: OnIo | None = None) -> None:
        """Start empty; `on_io` is called around every write."""
        self._on_io = on_io
        self._records: dict[str, dict[int, Record]] = {}  # by workflow and offset
        self._offsets: dict[int, int] = {}

    async def add(self, records: Sequence[Record], *, offset: int, partition: int) -> None:
        """Store records, then the offset."""
        taken = tuple(records)
        await reach(self._on_io, "archive.add:before")
        for record in taken:
            self._records.setdefault(record.workflow_id, {}).setdefault(record.offset, record)
        await reach(self._on_io, "archive.add:between")
        self._offsets[partition] = max(offset, self._offsets.get(partition, 0))
        await reach(self._on_io, "archive.add:after")

    async def read(
        self, workflow_id: str, *, after_offset: int = 0, limit: int | None = None
    ) -> Sequence[Record]:
        """Return records of the workflow in log order."""
        records = self._records.get(workflow_id, {})
        later = (records[offset] for offset in sorted(records) if offset > after_offset)
        return list(islice(later, None if limit is None else max(limit, 0)))

    async def epochs(self, workflow_ids: Sequence[str]) -> Mapping[str, int]:
        """Return the highest epoch of each workflow that is here; 0: nobody activated it."""
        return {
            workflow_id: max(
                (r.epoch for r in found.values() if isinstance(r.event, WorkflowActivated)),
                default=0,
            )
            for workflow_id in workflow_ids
            if (found := self._records.get(workflow_id))
        }

    async def offsets(self) -> Mapping[int, int]:
        """Return up to where each partition is archived."""
        return {partition: offset for partition, offset in self._offsets.items() if offset}

    async def reset(self) -> None:
        """Drop everything, to be filled again from the log."""
        await reach(self._on_io, "archive.reset:before")
        self._offsets.clear()
        self._records.clear()
        await reach(self._on_io, "archive.reset:after")

    async def close(self) -> None:
        """Do nothing: another simulated process may still use it."""
