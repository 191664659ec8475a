"""The event log of a simulation: in memory, and seen by the checker."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from orchx.domain.events import Record
from orchx.testing.memory_event_log import MemoryEventLog


class CheckedEventLog(MemoryEventLog):
    """The event log in memory, which shows every record to the checker as it is stored."""

    def __init__(
        self,
        on_io: Callable[[str], Awaitable[None]],
        appended: Callable[[Record], None],
        partitions: int,
    ) -> None:
        super().__init__(on_io, partitions=partitions)
        self._appended = appended
        self._records: list[Record] = []

    def _store(self, record: Record) -> Record:
        stored = super()._store(record)
        self._records.append(stored)
        self._appended(stored)
        return stored

    def records(self) -> Sequence[Record]:
        """Return everything, in the order of the appends."""
        return self._records
