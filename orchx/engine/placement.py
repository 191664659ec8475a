"""Which owner gets which workflow: isolation, capacity, and the order of those that wait."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from orchx.ports.supervision import OwnerLink

Isolation: TypeAlias = Literal["auto", "shared", "dedicated"]
CRITICAL = 0  # this priority never shares an owner
NO_DEADLINE_MS = 2**62


@dataclass(slots=True)
class Entry:
    """What the Dispatcher knows of one workflow that is not over.

    `owner` is where it is placed, None while it waits for a place or is passive;
    `commands` are the ids of those not yet known to be in the log, oldest first, `sent_ms`
    when they were last sent, in ticks; `bytes` is about what it was started with.
    """

    workflow_id: str
    tenant: str = "default"
    priority: int = 5
    deadline_ms: int | None = None
    isolation: Isolation = "auto"
    owner: str | None = None
    queued: bool = False
    fresh: bool = False  # not started yet
    passive: bool = False  # let go by its owner, until `due_at_ms` or a command
    due_at_ms: int | None = None
    timer_ms: int | None = None  # the due time that a timer is set for
    commands: dict[str, None] = field(default_factory=dict)
    bytes: int = 0
    fetching: bool = False  # its commands are being read from the queue
    behind: bool = False  # an older command could not be read: later ones have to wait
    placement: int = 0  # counts its owners, and the times that one began anew
    sent_ms: int = 0
    lost: int = 0  # how often in a row an owner could not take it up
    paused: bool = False  # lost, and to be placed after a while
    watched: bool = False


@dataclass(slots=True)
class Station:
    """One owner, as the Dispatcher sees it; `last_contact_ms` is in ticks."""

    link: OwnerLink
    capacity: int
    dedicated: bool
    incarnation: str = ""
    held: set[str] = field(default_factory=set)
    reachable: bool = True
    last_contact_ms: int = 0

    @property
    def free(self) -> int:
        """How many more workflows it takes."""
        return self.capacity - len(self.held) if self.reachable else 0


class WaitingRoom:
    """Workflows that wait for a place.

    Those taken up again come first, then it goes by priority, deadline and age.
    """

    def __init__(self) -> None:
        self._heap: list[tuple[bool, int, int, int, Entry]] = []
        self._order = itertools.count()

    def __len__(self) -> int:
        return len(self._heap)

    def push(self, entry: Entry) -> None:
        """Add a workflow, unless it waits already."""
        if entry.queued:
            return
        entry.queued = True
        deadline_ms = NO_DEADLINE_MS if entry.deadline_ms is None else entry.deadline_ms
        key = (entry.fresh, entry.priority, deadline_ms, next(self._order), entry)
        heapq.heappush(self._heap, key)

    def first(self) -> Entry:
        """Return the next one; it stays."""
        return self._heap[0][-1]

    def retain(self, wanted: Callable[[Entry], bool]) -> list[Entry]:
        """Take out, and return, those that are not wanted."""
        dropped = [each[-1] for each in self._heap if not wanted(each[-1])]
        self._heap = [each for each in self._heap if wanted(each[-1])]
        heapq.heapify(self._heap)
        for entry in dropped:
            entry.queued = False
        return dropped

    def pop(self) -> Entry:
        """Take the next one out."""
        entry = heapq.heappop(self._heap)[-1]
        entry.queued = False
        return entry


class Stations:
    """All owners.

    Args:
        stations: the owners.
        auto_dedicated: how many dedicated owners workflows of `auto` isolation may hold at
            once; the others stay warm for those that must not share (ADR 0009).
    """

    def __init__(self, stations: Iterable[Station], *, auto_dedicated: int = 1) -> None:
        self.by_name = {station.link.name: station for station in stations}
        self._dedicated = [s for s in self.by_name.values() if s.dedicated]
        self._shared = [s for s in self.by_name.values() if not s.dedicated]
        self._auto_dedicated = auto_dedicated

    def __iter__(self) -> Iterator[Station]:
        return iter(self.by_name.values())

    @property
    def held(self) -> int:
        """How many workflows are placed."""
        return sum(len(station.held) for station in self.by_name.values())

    def alone(self, entry: Entry) -> bool:
        """Return whether a workflow takes a dedicated owner and nothing else.

        That is what `dedicated` and critical ones do, where there are dedicated owners.
        """
        wanted = entry.isolation == "dedicated" or entry.priority == CRITICAL
        return wanted and bool(self._dedicated)

    def choose(self, entry: Entry) -> Station | None:
        """Return the owner for a workflow; None: it has to wait."""
        if self.alone(entry):
            return self._free_dedicated()
        if entry.isolation == "auto":
            busy = sum(1 for station in self._dedicated if station.held)
            station = self._free_dedicated() if busy < self._auto_dedicated else None
            if station is not None:
                return station
        return max((s for s in self._shared if s.free > 0), key=lambda s: s.free, default=None)

    def _free_dedicated(self) -> Station | None:
        return next((station for station in self._dedicated if station.free > 0), None)
