"""A verification finds what is wrong, and is not misled by what goes on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import replace

import msgspec
import pytest

from orchx.domain.events import Record
from orchx.engine import verification
from orchx.engine.comparison import Item, item_of
from orchx.engine.projector import Projector
from orchx.engine.reprojection import Hearing, Progress, Reprojection, nobody
from orchx.engine.verification import ROUNDS_MAX, Verdict, Verification
from orchx.engine.verified_stores import CachedEntry, Growing, Sides, Subject
from orchx.errors import Unavailable
from orchx.ports.state_store import WorkflowSummary
from orchx.settings import Settings
from orchx.testing.made_histories import made_history, mixed_histories
from orchx.testing.memory_event_log import MemoryEventLog
from orchx.testing.memory_state_store import MemoryStateStore
from orchx.testing.virtual_clock import VirtualClock

COUNT = 30
ONE = f"wf_made{1:016d}"


class States:
    """A memory store's summaries as items; `before_look_up` happens before each look-up."""

    def __init__(self, store: MemoryStateStore) -> None:
        self.store = store
        self.before_look_up: Callable[[], Awaitable[None]] | None = None

    async def items(self) -> AsyncIterator[Item]:
        for key in sorted(self.store._summaries):
            yield self._item(key)

    async def look_up(self, keys: Sequence[str]) -> Mapping[str, Item]:
        if self.before_look_up is not None:
            await self.before_look_up()
        return {key: self._item(key) for key in keys if key in self.store._summaries}

    def _item(self, key: str) -> Item:
        found = item_of(self.store._summaries[key])
        return replace(found, offset=self.store._true_up_to[key])


class Cache:
    def __init__(self, entries: Sequence[CachedEntry]) -> None:
        self.entries = list(entries)
        self.before_look_up: Callable[[], Awaitable[None]] | None = None

    async def batches(self) -> AsyncIterator[Sequence[CachedEntry]]:
        yield self.entries

    async def look_up(self, entries: Sequence[CachedEntry]) -> Sequence[CachedEntry]:
        if self.before_look_up is not None:
            await self.before_look_up()
        keys = {entry.key for entry in entries}
        return [entry for entry in self.entries if entry.key in keys]


class Rig:
    """A log, the live states that are projected from it, and what verifies them."""

    def __init__(self) -> None:
        self.log = MemoryEventLog()
        self.live = MemoryStateStore()
        self.states = States(self.live)
        self.cache: Cache | None = None
        self.growing: list[Growing] = []
        self.copied = MemoryStateStore()
        self.told: list[Progress] = []
        self._projector = Projector(self.log, self.live, VirtualClock(), Settings(), batch_limit=5)

    async def write(self, count: int = COUNT, *, first: int = 0) -> None:
        for turn in mixed_histories(count, first=first):
            await self.log.append(turn)

    async def project(self, *, up_to: int | None = None) -> None:
        while await self._projector.step(up_to=up_to):
            pass

    async def verify(self) -> Verdict:
        copy = Reprojection(self.log, self.copied, VirtualClock(), Settings(), batch_limit=7)
        subject = Subject(
            log=self.log,
            live=self.live,
            live_states=self.states,
            rebuilt=self.copied,
            rebuilt_states=States(self.copied),
            copy=copy,
            growing=self.growing,
            cache=self.cache,
        )
        return await Verification(subject, told=self.told.append).run()

    def cached(self, *, offset: int) -> Cache:
        """Put what is live into the cache."""
        entries = [
            CachedEntry(key=key, summary=summary, partition=0, marker_offset=offset)
            for key, summary in self.live._summaries.items()
        ]
        self.cache = Cache(entries)
        return self.cache

    def tamper(self, key: str, **changes: object) -> None:
        self.live._summaries[key] = replace(self.live._summaries[key], **changes)  # type: ignore[arg-type]


@pytest.fixture
async def rig() -> Rig:
    rig = Rig()
    await rig.write()
    await rig.project()
    return rig


def found(verdict: Verdict, store: str = "workflows") -> dict[str, tuple[str, list[str]]]:
    [tally] = [each for each in verdict.stores if each.store == store]
    assert tally.differing == len(tally.differences)
    return {one.key: (one.kind, list(one.fields)) for one in tally.differences}


async def test_nothing_differs_where_nothing_is_wrong(rig: Rig) -> None:
    verdict = await rig.verify()
    assert verdict.equal
    assert verdict.records == await rig.log.last_offset()
    assert verdict.stores[-1].equal == COUNT
    assert rig.told[-1].done == rig.told[-1].total


async def test_wrong_missing_and_extra_ones_are_named(rig: Rig) -> None:
    rig.tamper(ONE, retries=9)
    gone = f"wf_made{2:016d}"
    del rig.live._summaries[gone]
    rig.live._summaries["wf_zzz"] = replace(rig.live._summaries[ONE], workflow_id="wf_zzz")
    rig.live._true_up_to["wf_zzz"] = 1
    verdict = await rig.verify()
    assert not verdict.equal
    assert found(verdict) == {
        ONE: ("differs", ["retries"]),
        gone: ("missing", []),
        "wf_zzz": ("extra", []),
    }


async def test_what_is_not_projected_yet_is_told_and_is_no_difference(rig: Rig) -> None:
    await rig.write(5, first=COUNT)
    verdict = await rig.verify()
    assert verdict.equal
    assert verdict.behind == {0: await rig.log.last_offset() - verdict.offsets[0]}
    assert verdict.empty == []


async def test_a_store_that_has_nothing_is_told(rig: Rig) -> None:
    rig.live = MemoryStateStore()
    rig.states = States(rig.live)
    verdict = await rig.verify()
    assert verdict.empty == [0]
    assert not verdict.equal


async def test_an_empty_log_is_equal() -> None:
    verdict = await Rig().verify()
    assert verdict.equal
    assert verdict.empty == []


async def test_summaries_that_a_crash_has_left_ahead_of_the_offset_are_right(rig: Rig) -> None:
    """Some were saved, and the offset behind them was not."""
    before = await rig.live.offset()
    await rig.write(1, first=COUNT)
    await rig.project()
    rig.live._offsets[0] = before
    verdict = await rig.verify()
    assert verdict.equal
    assert verdict.behind


async def test_what_changes_meanwhile_is_followed(rig: Rig) -> None:
    """A workflow that is compared in the middle of its life, which then goes on."""
    turns = made_history(COUNT, at_ms=1)
    await rig.log.append(turns[0])
    await rig.project()
    rig.tamper(ONE, retries=9)  # and a wrong one among them

    async def go_on() -> None:
        if turns_left:
            await rig.log.append(turns_left.pop(0))
            await rig.project()

    turns_left = turns[1:]
    rig.states.before_look_up = go_on
    assert found(await rig.verify()) == {ONE: ("differs", ["retries"])}


async def test_one_that_never_rests_is_told_as_such(rig: Rig) -> None:
    number = 0

    async def go_on() -> None:
        nonlocal number
        number += 1
        rig.tamper(ONE, retries=number)
        rig.live._true_up_to[ONE] = await rig.log.last_offset() + number

    await go_on()
    rig.states.before_look_up = go_on
    verdict = await rig.verify()
    assert found(verdict) == {ONE: ("unsettled", [])}
    assert number > ROUNDS_MAX


async def test_what_only_grows_is_compared_and_excused(rig: Rig) -> None:
    def items(*keys: str) -> AsyncIterator[Item]:
        async def each() -> AsyncIterator[Item]:
            for key in keys:
                yield Item(key=key, raw=key, fields=dict)

        return each()

    async def opened(offsets: Mapping[int, int]) -> Sides:
        assert offsets == {0: await rig.log.last_offset()}
        return Sides(
            live=items("a", "b"),
            rebuilt=items("a", "c", "d"),
            excuse=lambda live, rebuilt: "old" if rebuilt and rebuilt.key == "c" else None,
        )

    rig.growing.append(Growing(name="history", open=opened))
    verdict = await rig.verify()
    assert found(verdict, "history") == {"b": ("extra", []), "d": ("missing", [])}
    assert verdict.stores[0].excused == {"old": 1}
    assert verdict.stores[0].equal == 1


async def test_what_went_on_before_the_comparison_is_no_suspect(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verification, "SUSPECTS_MAX", 0)

    async def open_(offsets: Mapping[int, int]) -> Sides:
        await rig.write(COUNT, first=COUNT)  # as while much is projected and compared
        await rig.project()
        return Sides(live=nothing(), rebuilt=nothing())

    rig.growing.append(Growing(name="history", open=open_))
    assert (await rig.verify()).equal


async def test_of_too_many_suspects_those_in_motion_are_called_so(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verification, "SUSPECTS_MAX", 0)
    rig.tamper(ONE, retries=9)
    moving = f"wf_made{2:016d}"
    rig.tamper(moving, retries=9)
    rig.live._true_up_to[moving] += 1_000
    assert found(await rig.verify()) == {ONE: ("differs", ["retries"]), moving: ("unsettled", [])}


async def test_a_log_that_lacks_records_is_not_called_equal() -> None:
    rig = Rig()
    first, _, *later = made_history(1, at_ms=1)
    for turn in (first, *later):
        await rig.log.append(turn)
    await rig.project()
    verdict = await rig.verify()
    assert not any(tally.differing for tally in verdict.stores)
    assert verdict.gaps
    assert not verdict.equal


class TestCache:
    async def test_right_entries_are_equal_and_may_be_few(self, rig: Rig) -> None:
        cache = rig.cached(offset=await rig.log.last_offset())
        del cache.entries[3:]
        verdict = await rig.verify()
        assert verdict.equal
        assert verdict.stores[-1].equal == 3

    async def test_a_wrong_entry_is_named(self, rig: Rig) -> None:
        cache = rig.cached(offset=await rig.log.last_offset())
        [place] = [n for n, entry in enumerate(cache.entries) if entry.key == ONE]
        summary: WorkflowSummary = replace(cache.entries[place].summary, tenant="other")
        cache.entries[place] = replace(cache.entries[place], summary=summary)
        assert found(await rig.verify(), "cache") == {ONE: ("differs", ["tenant"])}

    async def test_an_entry_behind_its_marker_is_wrong(self, rig: Rig) -> None:
        cache = rig.cached(offset=await rig.log.last_offset() + 1_000)
        old = await self._made_old(rig, cache)
        verdict = await rig.verify()
        assert list(found(verdict, "cache")) == [old]

    async def test_an_entry_behind_as_its_marker_says_is_not_wrong(self, rig: Rig) -> None:
        cache = rig.cached(offset=await rig.log.last_offset())
        await self._made_old(rig, cache)
        verdict = await rig.verify()
        assert verdict.equal
        assert verdict.stores[-1].excused == {"behind, as their marker says": 1}

    async def test_an_entry_ahead_is_followed(self, rig: Rig) -> None:
        await rig.log.append(made_history(COUNT, at_ms=1)[0])
        await rig.project()
        cache = rig.cached(offset=await rig.log.last_offset())
        rig.states.before_look_up = None
        ahead = [entry for entry in cache.entries if entry.key == f"wf_made{COUNT:016d}"]
        await rig.log.append(made_history(COUNT, at_ms=1)[1])
        before = rig.live._summaries[ahead[0].key], dict(rig.live._true_up_to)
        await rig.project()
        later = rig.live._summaries[ahead[0].key]
        cache.entries[cache.entries.index(ahead[0])] = replace(ahead[0], summary=later)
        offset = rig.live._offsets[0]
        # The state store seems to be behind, until the entry is looked at again.
        rig.live._summaries[ahead[0].key] = before[0]
        rig.live._true_up_to.update(before[1])
        rig.live._offsets[0] = before[1][ahead[0].key]

        async def catch_up() -> None:
            rig.live._summaries[ahead[0].key] = later
            rig.live._offsets[0] = rig.live._true_up_to[ahead[0].key] = offset

        cache.before_look_up = catch_up
        verdict = await rig.verify()
        assert verdict.equal
        assert verdict.stores[-1].equal == COUNT + 1

    async def _made_old(self, rig: Rig, cache: Cache) -> str:
        """Have a workflow go on that the cache does not hear of."""
        await rig.log.append(made_history(COUNT, at_ms=1)[0])
        await rig.project()
        key = f"wf_made{COUNT:016d}"
        old = rig.live._summaries[key]
        marker = cache.entries[0].marker_offset
        cache.entries.append(CachedEntry(key=key, summary=old, partition=0, marker_offset=marker))
        await rig.log.append(made_history(COUNT, at_ms=1)[1])
        await rig.project()
        return key


async def nothing() -> AsyncIterator[Item]:
    none: Sequence[Item] = ()
    for item in none:
        yield item


class Ear:
    def __init__(self, *, failures: int = 0) -> None:
        self.heard: list[Record] = []
        self._failures = failures

    async def observe(self, records: Sequence[Record]) -> None:
        if self._failures:
            self._failures -= 1
            raise Unavailable("not now")
        self.heard += records


async def test_an_observer_hears_what_counts_between_two_offsets() -> None:
    log, ear, clock = MemoryEventLog(), Ear(failures=2), VirtualClock()
    turns = made_history(1, at_ms=1)
    for turn in turns[:2]:
        await log.append(turn)
    heard = {0: await log.last_offset()}
    fenced = [replace_owner(record, "owner-b") for record in turns[2]]
    await log.append(fenced)
    for turn in turns[2:]:
        await log.append(turn)
    target = await log.last_offset()
    await log.append(made_history(2, at_ms=1)[0])
    hearing = asyncio.create_task(Hearing(log, ear, clock).hear(heard, {0: target}, nobody))
    await clock.advance(60)
    await hearing
    assert [record.seq for record in ear.heard] == [
        record.seq for turn in turns[2:] for record in turn
    ]
    assert {record.owner for record in ear.heard} == {turns[0][0].owner}


def replace_owner(record: Record, owner: str) -> Record:
    return msgspec.structs.replace(record, owner=owner)
