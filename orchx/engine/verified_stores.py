"""What a verification looks at: the live stores, and the copy that they are compared with."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from orchx.engine.comparison import Item
from orchx.engine.reprojection import Reprojection
from orchx.ports.event_log import EventLog
from orchx.ports.state_store import StateStore, WorkflowSummary


class States(Protocol):
    """The current states as items, with the workflow's id as key."""

    def items(self) -> AsyncIterator[Item]:
        """Yield all of them, in ascending order of their keys."""
        ...

    async def look_up(self, keys: Sequence[str]) -> Mapping[str, Item]:
        """Return those that exist."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class CachedEntry:
    """What the cache would serve for a workflow, and how far its partition's marker says it is."""

    key: str
    summary: WorkflowSummary
    partition: int
    marker_offset: int


class CachedStates(Protocol):
    """What the cache would serve."""

    def batches(self) -> AsyncIterator[Sequence[CachedEntry]]:
        """Yield all entries of living generations, some at a time, in no order."""
        ...

    async def look_up(self, entries: Sequence[CachedEntry]) -> Sequence[CachedEntry]:
        """Return the same entries as they are now; those that are gone are left out."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Sides:
    """Both sides of something that only ever grows, up to the same point.

    `excuse` returns why an item may be on one side alone, or None.
    """

    live: AsyncIterator[Item]
    rebuilt: AsyncIterator[Item]
    excuse: Callable[[Item | None, Item | None], str | None] = lambda live, rebuilt: None


@dataclass(frozen=True, slots=True, kw_only=True)
class Growing:
    """Something that only ever grows; `open` gets the offsets up to which states were compared."""

    name: str
    open: Callable[[Mapping[int, int]], Awaitable[Sides]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """What is verified, and the copy that it is compared with.

    `live` tells the offsets; `copy` is projected into `rebuilt`.
    """

    log: EventLog
    live: StateStore
    live_states: States
    rebuilt: StateStore
    rebuilt_states: States
    copy: Reprojection
    growing: Sequence[Growing] = ()
    cache: CachedStates | None = None
