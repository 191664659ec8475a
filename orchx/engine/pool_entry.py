"""One execution inside a pool, and the queue it waits in."""

from __future__ import annotations

import asyncio
import enum
from collections import OrderedDict
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from orchx.domain.messages import TaskRequest

if TYPE_CHECKING:
    from orchx.engine.service_gate import ServiceGate

PRIORITIES: Final = 10


class EntryState(enum.Enum):
    """Where an execution stands. `OVERDUE` has its outcome, but its call has not ended."""

    QUEUED = enum.auto()
    RUNNING = enum.auto()
    OVERDUE = enum.auto()
    GONE = enum.auto()


class PoolEntry:
    """One execution: what was asked, by whom, and how far it is.

    `owner` is the last one that asked for it: after a takeover the outcome goes to the new
    owner. Times are the pool's ticks.
    """

    __slots__ = (
        "alarm_tick",
        "deadline_ms",
        "execution",
        "gate",
        "has_begun",
        "heartbeat_ms",
        "is_probe",
        "number",
        "owner",
        "queued_ms",
        "request",
        "started_ms",
        "state",
        "task",
    )

    def __init__(
        self,
        request: TaskRequest,
        execution: str,
        gate: ServiceGate | None,
        number: int,
        now_ms: int,
    ) -> None:
        self.request = request
        self.execution = execution
        self.owner = request.owner
        self.gate = gate
        self.number = number
        self.queued_ms = now_ms
        self.deadline_ms: int | None = None
        self.started_ms = 0
        self.heartbeat_ms: int | None = None
        self.state = EntryState.QUEUED
        self.task: asyncio.Task[None] | None = None
        self.has_begun = False
        self.is_probe = False
        self.alarm_tick = 0


class PriorityQueue:
    """Entries by priority, 0 first, and in the order of arrival within one."""

    __slots__ = ("_length", "_levels")

    def __init__(self) -> None:
        # Ordered dicts and no heap: an entry that is given up is gone at once.
        self._levels: tuple[OrderedDict[int, PoolEntry], ...] = tuple(
            OrderedDict() for _ in range(PRIORITIES)
        )
        self._length = 0

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[PoolEntry]:
        for level in self._levels:
            yield from level.values()

    def push(self, entry: PoolEntry) -> None:
        """Add an entry."""
        self._level(entry)[entry.number] = entry
        self._length += 1

    def head(self) -> tuple[int, int]:
        """Return priority and number of the first entry, for comparison with other queues."""
        for priority, level in enumerate(self._levels):
            if level:
                return priority, next(iter(level))
        raise IndexError("the queue is empty")

    def pop(self) -> PoolEntry:
        """Remove and return the first entry."""
        for level in self._levels:
            if level:
                self._length -= 1
                return level.popitem(last=False)[1]
        raise IndexError("the queue is empty")

    def remove(self, entry: PoolEntry) -> None:
        """Remove an entry that is in the queue."""
        del self._level(entry)[entry.number]
        self._length -= 1

    def _level(self, entry: PoolEntry) -> OrderedDict[int, PoolEntry]:
        return self._levels[min(max(entry.request.priority, 0), PRIORITIES - 1)]
