"""The cache of current states in memory, for tests; shared by all simulated processes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import count

from orchx.ports.clock import Clock
from orchx.ports.state_cache import CacheView
from orchx.ports.state_store import WorkflowSummary
from orchx.testing.memory_io import OnIo, reach


@dataclass(slots=True, kw_only=True)
class _Partition:
    """What was put without a gap: a generation."""

    generation: int
    offset: int
    at_ms: int
    kept: dict[str, WorkflowSummary] = field(default_factory=dict)
    leases: dict[str, str] = field(default_factory=dict)


class MemoryStateCache:
    """A `StateCache` that yields, or fails, before and after whatever it does."""

    def __init__(self, clock: Clock, on_io: OnIo | None = None) -> None:
        """Start empty; `on_io` is called around every operation, reading too."""
        self._clock = clock
        self._on_io = on_io
        self._partitions: dict[int, _Partition] = {}
        self._numbers = count(1)

    async def get(self, workflow_ids: Sequence[str], *, partition: int) -> CacheView | None:
        """Look workflows up, and lease what is not there."""
        await reach(self._on_io, "state_cache.get:before")
        known = self._partitions.get(partition)
        if known is None:
            return None
        lease = f"{known.generation}?{next(self._numbers)}"
        found = {key: known.kept[key] for key in workflow_ids if key in known.kept}
        for key in workflow_ids:
            if key not in found:
                known.leases.setdefault(key, lease)
        age_ms = self._clock.ticks_ms() - known.at_ms
        view = CacheView(offset=known.offset, age_ms=age_ms, found=found, lease=lease)
        await reach(self._on_io, "state_cache.get:after")
        return view

    async def fill(
        self, summaries: Sequence[WorkflowSummary], *, partition: int, lease: str
    ) -> None:
        """Keep what was read from the store, where the lease still stands."""
        await reach(self._on_io, "state_cache.fill:before")
        known = self._partitions.get(partition)
        if known is not None:
            for summary in summaries:
                if known.leases.get(summary.workflow_id) == lease:
                    del known.leases[summary.workflow_id]
                    known.kept[summary.workflow_id] = summary
        await reach(self._on_io, "state_cache.fill:after")

    async def put(
        self, summaries: Sequence[WorkflowSummary], *, after: int, offset: int, partition: int
    ) -> None:
        """Keep what changed in a partition between two offsets."""
        taken, at_ms = tuple(summaries), self._clock.ticks_ms()
        await reach(self._on_io, "state_cache.put:before")
        known = self._partitions.get(partition)
        if known is None or known.offset != after:
            generation = next(self._numbers)
            known = _Partition(generation=generation, offset=offset, at_ms=at_ms)
            self._partitions[partition] = known
        for summary in taken:
            known.kept[summary.workflow_id] = summary
            known.leases.pop(summary.workflow_id, None)
        known.offset, known.at_ms = offset, at_ms
        await reach(self._on_io, "state_cache.put:after")

    async def clear(self, partition: int | None = None) -> None:
        """Forget the summaries of a partition, or of all."""
        await reach(self._on_io, "state_cache.clear:before")
        if partition is None:
            self._partitions.clear()
        else:
            self._partitions.pop(partition, None)
        await reach(self._on_io, "state_cache.clear:after")

    async def close(self) -> None:
        """Do nothing: another simulated process may still use it."""

    def evict(self, workflow_id: str) -> None:
        """Forget a workflow, as a server does that has no room, whatever is going on."""
        for known in self._partitions.values():
            known.kept.pop(workflow_id, None)
            known.leases.pop(workflow_id, None)
