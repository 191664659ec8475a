"""A state store with a cache of current states in front of it.

The store has everything before the cache hears of it, and the cache may fail, forget or fall
behind at any time: then the store is asked.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NoReturn, TypeVar

import structlog

from orchx.errors import DriverError, StorageFull, TryLater
from orchx.ports.clock import Clock
from orchx.ports.state_cache import LOOKUP_MAX, CacheView, StateCache
from orchx.ports.state_store import Filter, Page, StateStore, WorkflowSummary

T = TypeVar("T")

CONFIRM_S = 1.0
"""How often a writer confirms what it has put, and how often a lost cache is tried again."""

UNKNOWN = -1
"""An offset that nothing was put up to: what is put after it goes on from nothing."""

STALE_MS = 5_000
"""What nobody has confirmed for so long is not served."""

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class CachedSummary:
    """A summary, and how long ago it is known to be the store's; 0: the store said so."""

    summary: WorkflowSummary
    age_ms: int


@dataclass(slots=True, kw_only=True)
class _Access:
    """One way to the cache; while it fails, nobody waits for it."""

    what: str
    failed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class _Lease:
    partition: int
    lease: str
    wanted: Sequence[str]


class CachedStateStore:
    """A `StateStore` whose `load` looks into a cache first. One per process.

    What is loaded is never older than what this process has saved, nor than an `offset` that
    it was told, nor than the positions that `require` was given. So for a read that must see
    all that was durable when it was asked for, wait until the projection has caught up, give
    `require` the offsets that it has reached, and load. The cache says for each partition up
    to which offset it is complete: where that is not far enough, the store is asked, which
    has at least what was saved. This compares offsets and needs no clocks, so it holds
    whatever fails. Any other load returns what was the latest at most `STALE_MS` ago.

    Args:
        store: has everything.
        cache: may fail.
        clock: time.
        partition_of: says in which partition of the log a workflow is.
        read_cache: whether `load` asks the cache; of no use where most are new, as for a
            projector.
    """

    def __init__(
        self,
        store: StateStore,
        cache: StateCache,
        clock: Clock,
        *,
        partition_of: Callable[[str], int] = lambda _: 0,
        read_cache: bool = True,
    ) -> None:
        self._store = store
        self._cache = cache
        self._clock = clock
        self._partition_of = partition_of
        self._read_cache = read_cache
        self._reached: dict[int, int] = {}  # by partition: nothing older is loaded
        self._saved: dict[int, int] = {}  # of partitions that this process projects
        self._reading, self._writing = _Access(what="reading"), _Access(what="writing")
        self._misplaced = False  # whether `partition_of` was seen to be wrong
        self._keeper: asyncio.Task[None] | None = None

    def require(self, offsets: Mapping[int, int]) -> None:
        """Load nothing from now on that lacks changes up to these offsets of the partitions."""
        for partition, offset in offsets.items():
            self._reached[partition] = max(offset, self._reached.get(partition, 0))

    async def load(self, workflow_ids: Sequence[str]) -> Mapping[str, WorkflowSummary]:
        """Return the summaries that exist."""
        if not self._read_cache:
            return await self._store.load(workflow_ids)
        return {key: aged.summary for key, aged in (await self.load_aged(workflow_ids)).items()}

    async def load_aged(self, workflow_ids: Sequence[str]) -> Mapping[str, CachedSummary]:
        """Return the summaries that exist, with their age.

        Raises:
            What the store raises.
        """
        found: dict[str, CachedSummary] = {}
        leases: list[_Lease] = []
        for partition, wanted in self._lookups(workflow_ids):
            view = await self._view(partition, wanted)
            if view is not None:
                for workflow_id, summary in view.found.items():
                    found[workflow_id] = CachedSummary(summary=summary, age_ms=view.age_ms)
                leases.append(_Lease(partition=partition, lease=view.lease, wanted=wanted))
        missing = [key for key in dict.fromkeys(workflow_ids) if key not in found]
        if missing:
            stored = await self._store.load(missing)
            for workflow_id, summary in stored.items():
                found[workflow_id] = CachedSummary(summary=summary, age_ms=0)
            for lease in leases:
                await self._fill(lease, stored)
        return found

    async def save(
        self, summaries: Sequence[WorkflowSummary], *, offset: int, partition: int = 0
    ) -> None:
        """Store summaries and the offset, then tell the cache; its failures are none of ours."""
        # Out of the table until it is known to be done: a failure may have saved or not.
        saved = self._saved.pop(partition, None)
        after = await self.offset(partition) if saved is None else saved
        await self._store.save(summaries, offset=offset, partition=partition)
        if offset > after:  # an older one changes nothing
            self.require({partition: offset})
            # After a failure what the cache holds is not gone on from: the store may have some of
            # the summaries that failed without its offset, and they are not in these then, for
            # to whoever projects again they have not changed.
            await self._put(summaries, UNKNOWN if saved is None else saved, offset, partition)
        self._saved[partition] = max(after, offset)

    async def offset(self, partition: int = 0) -> int:
        """Return the offset up to which the projection holds."""
        offset = await self._store.offset(partition)
        self.require({partition: offset})
        return offset

    async def list(self, filter_: Filter) -> Page:
        """Return one page, newest first."""
        return await self._store.list(filter_)

    async def unfinished(self, *, after_id: str, limit: int) -> Sequence[WorkflowSummary]:
        """Return non-terminal workflows in id order."""
        return await self._store.unfinished(after_id=after_id, limit=limit)

    async def counts(self) -> Mapping[str, int]:
        """Count workflows by status."""
        return await self._store.counts()

    async def reset(self) -> None:
        """Drop everything, to be rebuilt from the log."""
        self._saved.clear()
        await self._access(self._writing, self._cache.clear)
        await self._store.reset()
        self._reached.clear()

    async def close(self) -> None:
        """Let go of the store and the cache."""
        keeper, self._keeper = self._keeper, None
        if keeper is not None:
            keeper.cancel()
            await asyncio.gather(keeper, return_exceptions=True)
        with contextlib.suppress(DriverError, StorageFull, TryLater):
            await self._cache.close()
        await self._store.close()

    def _lookups(self, workflow_ids: Sequence[str]) -> Iterator[tuple[int, Sequence[str]]]:
        """Yield what the cache can be asked at once: some workflows of one partition."""
        by_partition: defaultdict[int, dict[str, None]] = defaultdict(dict)
        for workflow_id in workflow_ids:
            by_partition[self._partition_of(workflow_id)][workflow_id] = None
        for partition, of_partition in by_partition.items():
            wanted = tuple(of_partition)
            for start in range(0, len(wanted), LOOKUP_MAX):
                yield partition, wanted[start : start + LOOKUP_MAX]

    async def _view(self, partition: int, wanted: Sequence[str]) -> CacheView | None:
        """Return what the cache says, if it is up to date."""
        view = await self._access(
            self._reading, lambda: self._cache.get(wanted, partition=partition)
        )
        if view is None or view.age_ms > STALE_MS:
            return None
        return view if view.offset >= self._reached.get(partition, 0) else None

    async def _fill(self, lease: _Lease, stored: Mapping[str, WorkflowSummary]) -> None:
        summaries = [stored[key] for key in lease.wanted if key in stored]
        if summaries:
            await self._access(
                self._reading,
                lambda: self._cache.fill(summaries, partition=lease.partition, lease=lease.lease),
            )

    async def _put(
        self, summaries: Sequence[WorkflowSummary], after: int, offset: int, partition: int
    ) -> None:
        # One of them is looked at, for that costs time: if it is wrong, so are others.
        if summaries and self._partition_of(summaries[0].workflow_id) != partition:
            await self._disown(summaries, partition)
            summaries = ()
        await self._access(
            self._writing,
            lambda: self._cache.put(summaries, after=after, offset=offset, partition=partition),
        )
        self._keep()

    async def _disown(self, summaries: Sequence[WorkflowSummary], partition: int) -> None:
        """Have what changed in another partition than the one it is looked up in not cached."""
        if not self._misplaced:
            _log.error(
                "state_cache.wrong_partition",
                workflow_id=summaries[0].workflow_id,
                partition=partition,
                looked_up_in=self._partition_of(summaries[0].workflow_id),
            )
        self._misplaced = True
        for home in {self._partition_of(summary.workflow_id) for summary in summaries}:
            await self._access(self._writing, partial(self._cache.clear, home))

    async def _access(
        self, access: _Access, operation: Callable[[], Awaitable[T]], *, again: bool = False
    ) -> T | None:
        """Use the cache, if it can be used, or to see whether it can `again`; None: it cannot."""
        if access.failed and not again:
            return None
        try:
            result = await operation()
        except (DriverError, StorageFull, TryLater) as error:
            if not access.failed:
                _log.warning("state_cache.failed", what=access.what, error=str(error))
            access.failed = True
            self._keep()
            return None
        if access.failed:
            _log.info("state_cache.recovered", what=access.what)
        access.failed = False
        return result

    def _keep(self) -> None:
        if self._keeper is None:
            self._keeper = asyncio.create_task(self._keep_up())

    async def _keep_up(self) -> NoReturn:
        """Confirm what was put, and try what has failed."""
        while True:
            await self._clock.sleep(CONFIRM_S)
            if self._reading.failed:
                await self._access(
                    self._reading, lambda: self._cache.get((), partition=0), again=True
                )
            for partition in tuple(self._saved):
                if not await self._confirm(partition):
                    break

    async def _confirm(self, partition: int) -> bool:
        offset = self._saved.get(partition)
        if offset is not None:  # else it is being saved
            await self._access(
                self._writing,
                lambda: self._cache.put((), after=offset, offset=offset, partition=partition),
                again=True,
            )
        return not self._writing.failed
