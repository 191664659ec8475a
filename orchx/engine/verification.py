"""Proving that what was made from the log is what the log makes: beside it, while it changes.

The log is projected once more, into stores of its own, exactly up to where the live stores say
that they are. Then both are gone through side by side. What differs there may only have changed
since: the copy is projected on to where the live one stands now, and those items are looked at
again, until each is equal, or wrong for certain.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeVar

from orchx.engine.comparison import Difference, Item, Tally, difference, item_of, side_by_side
from orchx.engine.projector import distance
from orchx.engine.reprojection import Progress, Told, nobody
from orchx.engine.verified_stores import CachedEntry, CachedStates, Growing, Subject
from orchx.ports.state_store import WorkflowSummary

T = TypeVar("T")

ROUNDS_MAX: Final = 20
SUSPECTS_MAX: Final = 50_000
"""Items that are looked at again; with more of them the store is wrong, and not in motion."""

LOOK_UP: Final = 500
TOLD_EVERY: Final = 2_000
SHOWN_MAX: Final = 20


@dataclass(slots=True, kw_only=True)
class Verdict:
    """What a verification has found.

    `behind` is, for each partition where there is any, how much of the log the live stores do
    not have yet, in offsets; `empty` are partitions of which they have nothing at all.
    """

    stores: list[Tally] = field(default_factory=list)
    offsets: Mapping[int, int]
    behind: dict[int, int] = field(default_factory=dict)
    empty: list[int] = field(default_factory=list)
    records: int = 0
    gaps: int = 0
    projecting_s: float = 0.0
    comparing_s: float = 0.0

    @property
    def equal(self) -> bool:
        """Whether nothing differs, and nothing is lost: neither in the stores nor in the log."""
        differing = any(tally.differing for tally in self.stores)
        return not (differing or self.empty or self.gaps)


class Verification:
    """Verifies one subject, once.

    Args:
        subject: what and with what.
        shown_max: how many differences of each store are kept.
        told: hears of the progress.
    """

    def __init__(
        self, subject: Subject, *, shown_max: int = SHOWN_MAX, told: Told = nobody
    ) -> None:
        self._subject = subject
        self._shown_max = shown_max
        self._told = told
        self._offsets: dict[int, int] = {}  # the copy is projected up to here

    async def run(self) -> Verdict:
        """Project and compare.

        Raises:
            DriverError, TryLater, StorageFull: a store, or the log, cannot be used.
        """
        subject = self._subject
        begun_s = time.monotonic()
        for partition in range(await subject.log.partitions()):
            self._offsets[partition] = await subject.live.offset(partition)
        beginning = dict(self._offsets)
        verdict = Verdict(offsets=beginning)
        for partition, offset in beginning.items():
            if behind := await distance(subject.log, offset, partition):
                verdict.behind[partition] = behind
                if not offset:
                    verdict.empty.append(partition)
        await subject.copy.reach(beginning, self._told)
        verdict.projecting_s = time.monotonic() - begun_s
        for growing in subject.growing:
            verdict.stores.append(await self._compare_growing(growing, beginning))
        verdict.stores.append(await self._compare_states())
        if subject.cache is not None:
            verdict.stores.append(await self._compare_cache(subject.cache))
        verdict.comparing_s = time.monotonic() - begun_s - verdict.projecting_s
        verdict.records, verdict.gaps = subject.copy.records, subject.copy.gaps
        return verdict

    def _tally(self, name: str) -> Tally:
        return Tally(store=name, shown_max=self._shown_max)

    # -- what only grows ---------------------------------------------------------------------

    async def _compare_growing(self, growing: Growing, offsets: Mapping[int, int]) -> Tally:
        tally = self._tally(growing.name)
        sides = await growing.open(offsets)
        async for live, rebuilt in side_by_side(sides.live, sides.rebuilt):
            tally.count(live, rebuilt)
            self._tell(tally)
            found = difference(tally.store, live, rebuilt)
            if found is None:
                tally.equal += 1
            elif reason := sides.excuse(live, rebuilt):
                tally.excused[reason] += 1
            else:
                tally.differs(found)
        return tally

    # -- what changes ------------------------------------------------------------------------

    async def _compare_states(self) -> Tally:
        tally = self._tally("workflows")
        suspects: list[str] = []
        await self._follow(())  # what has changed before is not looked at twice
        sides = self._subject.live_states.items(), self._subject.rebuilt_states.items()
        async for live, rebuilt in side_by_side(*sides):
            tally.count(live, rebuilt)
            self._tell(tally)
            found = difference(tally.store, live, rebuilt)
            if found is None:
                tally.equal += 1
            elif len(suspects) < SUSPECTS_MAX:
                suspects.append(found.key)
            elif self._moves(live):
                tally.differs(Difference(store=tally.store, key=found.key, kind="unsettled"))
            else:
                tally.differs(found)
        await self._settle_states(suspects, tally)
        return tally

    async def _settle_states(self, suspects: Sequence[str], tally: Tally) -> None:
        for _ in range(ROUNDS_MAX):
            if not suspects:
                return
            await self._follow(suspects)
            left: list[str] = []
            for keys in _parts(suspects):
                live = await self._subject.live_states.look_up(keys)
                rebuilt = await self._subject.rebuilt_states.look_up(keys)
                for key in keys:
                    there = live.get(key)
                    found = difference(tally.store, there, rebuilt.get(key))
                    if found is None:
                        tally.equal += 1
                    elif self._moves(there):
                        left.append(key)
                    else:
                        tally.differs(found)
            suspects = left
        for key in suspects:
            tally.differs(Difference(store=tally.store, key=key, kind="unsettled"))

    def _moves(self, live: Item | None) -> bool:
        """Tell whether an item has changed since the copy was last projected on."""
        return live is not None and live.offset > self._offsets.get(live.partition, 0)

    async def _follow(self, keys: Sequence[str]) -> None:
        """Project on to where the live states stand, and further for single ones after a crash."""
        for partition in self._offsets:
            offset = await self._subject.live.offset(partition)
            self._offsets[partition] = max(self._offsets[partition], offset)
        for part in _parts(keys):
            for item in (await self._subject.live_states.look_up(part)).values():
                if item.partition in self._offsets:
                    self._offsets[item.partition] = max(self._offsets[item.partition], item.offset)
        await self._subject.copy.reach(self._offsets)

    # -- the cache ---------------------------------------------------------------------------

    async def _compare_cache(self, cache: CachedStates) -> Tally:
        tally = self._tally("cache")
        suspects: list[CachedEntry] = []
        await self._follow(())
        async for batch in cache.batches():
            tally.live += len(batch)
            self._tell(tally)
            left = await self._judge_cached(batch, tally)
            room = SUSPECTS_MAX - len(suspects)
            suspects += left[:room]
            for entry in left[room:]:
                tally.differs(_unsettled(entry))
        for _ in range(ROUNDS_MAX):
            if not suspects:
                return tally
            await self._follow(())
            again, suspects = suspects, []
            for part in _parts(again):
                there = await cache.look_up(part)
                if gone := len(part) - len(there):
                    tally.excused["gone meanwhile"] += gone
                suspects += await self._judge_cached(there, tally)
        for entry in suspects:
            if entry.marker_offset < self._offsets.get(entry.partition, 0):
                tally.excused["behind, as their marker says"] += 1
            else:
                tally.differs(_unsettled(entry))
        return tally

    async def _judge_cached(self, batch: Sequence[CachedEntry], tally: Tally) -> list[CachedEntry]:
        """Count those that can be judged, and return the others."""
        left = []
        rebuilt = await self._subject.rebuilt.load([entry.key for entry in batch])
        for entry in batch:
            copy = rebuilt.get(entry.key)
            if copy is None:
                left.append(entry)
                continue
            found = difference(tally.store, item_of(entry.summary), item_of(copy))
            complete = entry.marker_offset >= self._offsets.get(entry.partition, 0)
            if found is None:
                tally.equal += 1
            elif _place(entry.summary) == _place(copy) or (
                complete and _place(entry.summary) < _place(copy)
            ):
                tally.differs(found)
            else:
                left.append(entry)
                continue
            tally.rebuilt += 1
        return left

    def _tell(self, tally: Tally) -> None:
        if tally.live % TOLD_EVERY == 0:
            self._told(Progress(stage=f"comparing {tally.store}", done=tally.live, total=0))


def _unsettled(entry: CachedEntry) -> Difference:
    return Difference(store="cache", key=entry.key, kind="unsettled")


def _place(summary: WorkflowSummary) -> tuple[int, int]:
    """Return the last record that a summary holds: epoch and number."""
    return summary.epoch, summary.seq


def _parts(keys: Sequence[T]) -> Iterator[Sequence[T]]:
    for start in range(0, len(keys), LOOK_UP):
        yield keys[start : start + LOOK_UP]
