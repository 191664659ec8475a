"""The state store behind a cache that fails, forgets and falls behind."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence

import pytest
import structlog

from orchx.engine.cached_state_store import CONFIRM_S, STALE_MS, CachedStateStore
from orchx.errors import DriverError, StorageFull, Unavailable
from orchx.ports.state_store import Filter, WorkflowSummary
from orchx.testing.memory_state_cache import MemoryStateCache
from orchx.testing.memory_state_store import MemoryStateStore
from orchx.testing.virtual_clock import VirtualClock
from tests import summaries

LATE_S = STALE_MS / 1000 + 1


def summary(workflow_id: str, change: int = 0) -> WorkflowSummary:
    return summaries.summary(workflow_id, seq=change)


class Faults:
    """What goes wrong with the cache, and at which points it was."""

    def __init__(self) -> None:
        self.failing: dict[str, Exception] = {}
        self.points: list[str] = []

    async def __call__(self, point: str) -> None:
        self.points.append(point)
        await asyncio.sleep(0)
        for part, error in self.failing.items():
            if part in point:
                raise error

    def fail(self, part: str = "state_cache", error: Exception | None = None) -> None:
        self.failing[part] = error or Unavailable("out of reach")

    def mend(self) -> None:
        self.failing.clear()


class CountingStore(MemoryStateStore):
    """Counts loads, and stops before one returns as long as a test wants."""

    def __init__(self) -> None:
        super().__init__()
        self.loads = 0
        self.go_on = asyncio.Event()
        self.go_on.set()
        self.begun = asyncio.Event()

    async def load(self, workflow_ids: Sequence[str]) -> dict[str, WorkflowSummary]:
        self.loads += 1
        found = dict(await super().load(workflow_ids))
        self.begun.set()
        await self.go_on.wait()
        return found


class Rig:
    """A projecting and an answering process, with one store and one cache."""

    def __init__(self) -> None:
        self.clock = VirtualClock()
        self.store = CountingStore()
        self.faults = Faults()
        self.cache = MemoryStateCache(self.clock, self.faults)
        self.projector = self.process(read_cache=False)
        self.gateway = self.process()
        self.offset = 0

    def process(self, *, read_cache: bool = True) -> CachedStateStore:
        return CachedStateStore(self.store, self.cache, self.clock, read_cache=read_cache)

    async def save(self, *summaries: WorkflowSummary) -> int:
        self.offset += 10
        await self.projector.save(summaries, offset=self.offset)
        return self.offset

    async def seen(self, workflow_id: str = "w") -> int | None:
        """Return the number of the change that the answering process sees."""
        found = (await self.gateway.load([workflow_id])).get(workflow_id)
        return None if found is None else found.seq


@pytest.fixture
async def rig() -> Rig:
    return Rig()


class TestLoading:
    async def test_what_was_saved_comes_from_the_cache(self, rig: Rig) -> None:
        await rig.save(summary("w", 1), summary("v", 2))
        assert await rig.gateway.load(["v", "w"]) == {"w": summary("w", 1), "v": summary("v", 2)}
        assert rig.store.loads == 0

    async def test_an_empty_cache_is_filled_by_reading(self, rig: Rig) -> None:
        await rig.store.save([summary("w", 1)], offset=5)
        rig.offset = 5
        assert await rig.seen() == 1  # nobody has written the cache yet
        await rig.save(summary("v", 1))
        assert [await rig.seen() for _ in range(3)] == [1, 1, 1]
        assert rig.store.loads == 2

    async def test_what_nobody_knows_is_asked_for_each_time(self, rig: Rig) -> None:
        await rig.save(summary("v"))
        assert await rig.gateway.load(["none", "none", "v"]) == {"v": summary("v")}
        assert await rig.gateway.load([]) == {}
        assert await rig.seen("none") is None
        assert rig.store.loads == 2

    async def test_age_is_that_of_the_last_confirmation(self, rig: Rig) -> None:
        await rig.save(summary("w", 1))
        await rig.clock.advance(0.4)
        await rig.store.save([summary("v", 1)], offset=rig.offset + 1)
        aged = await rig.gateway.load_aged(["w", "v"])
        assert {key: one.age_ms for key, one in aged.items()} == {"w": 400, "v": 0}
        await rig.clock.advance(60)
        assert (await rig.gateway.load_aged(["w"]))["w"].age_ms <= CONFIRM_S * 1000

    async def test_what_a_dead_writer_left_is_served_for_a_while(self, rig: Rig) -> None:
        await rig.save(summary("w", 1))
        await rig.projector.close()
        await rig.clock.advance(STALE_MS / 1000)
        assert await rig.seen() == 1
        assert rig.store.loads == 0
        await rig.clock.advance(0.001)
        assert await rig.seen() == 1
        assert rig.store.loads == 1

    async def test_without_reading_the_cache_it_loads_from_the_store(self, rig: Rig) -> None:
        await rig.save(summary("w", 1))
        assert await rig.projector.load(["w"]) == {"w": summary("w", 1)}
        assert rig.store.loads == 1
        assert not [point for point in rig.faults.points if "get" in point]

    async def test_partitions_are_looked_up_apart(self, rig: Rig) -> None:
        process = CachedStateStore(
            rig.store, rig.cache, rig.clock, partition_of=lambda key: int(key[-1])
        )
        await process.save([summary("w1", 1)], offset=7, partition=1)
        await process.save([summary("w2", 2)], offset=3, partition=2)
        assert len(await process.load(["w1", "w2", "w3"])) == 2
        assert rig.store.loads == 1
        await process.close()

    async def test_the_rest_passes_through(self, rig: Rig) -> None:
        await rig.save(summary("w", 1))
        assert await rig.gateway.offset() == rig.offset
        assert await rig.gateway.counts() == {"running": 1}
        assert len((await rig.gateway.list(Filter())).workflows) == 1
        assert len(await rig.gateway.unfinished(after_id="", limit=5)) == 1


class TestRequiring:
    """After a barrier, whose offsets `require` is given, nothing older is loaded."""

    @pytest.mark.parametrize("point", ["state_cache.put:before", "state_cache.put:after"])
    async def test_where_the_cache_missed_a_save(self, rig: Rig, point: str) -> None:
        await rig.save(summary("w", 1))
        rig.faults.fail(point)  # the answering process still reaches the cache
        reached = await rig.save(summary("w", 2))
        rig.gateway.require({0: reached})
        assert await rig.seen() == 2
        assert await rig.seen() == 2

    async def test_where_the_cache_is_behind_without_a_failure(self, rig: Rig) -> None:
        await rig.save(summary("w", 1))
        await rig.store.save([summary("w", 2)], offset=99)  # by another process
        assert await rig.seen() == 1
        rig.gateway.require({0: 99})
        assert await rig.seen() == 2
        rig.gateway.require({0: 5, 1: 7})  # lowers nothing
        assert await rig.seen() == 2

    async def test_an_offset_that_was_told_is_required(self, rig: Rig) -> None:
        await rig.save(summary("w", 1))
        await rig.store.save([summary("w", 2)], offset=99)
        assert await rig.gateway.offset() == 99
        assert await rig.seen() == 2

    async def test_what_this_process_saved_is_required(self, rig: Rig) -> None:
        rig.gateway = rig.projector = rig.process()
        await rig.save(summary("w", 1))
        rig.faults.fail("state_cache.put")
        await rig.save(summary("w", 2))
        assert await rig.seen() == 2

    async def test_a_cache_that_is_far_enough_is_used(self, rig: Rig) -> None:
        await rig.save(summary("w", 1))
        reached = await rig.save(summary("v", 2))
        rig.gateway.require({0: reached})
        assert await rig.seen() == 1
        assert rig.store.loads == 0


class TestFilling:
    async def test_an_older_value_never_replaces_a_newer(self, rig: Rig) -> None:
        await rig.store.save([summary("w", 1)], offset=5)
        rig.offset = 5
        await rig.save(summary("v"))
        rig.store.go_on.clear()
        loading = asyncio.create_task(rig.seen())
        await rig.store.begun.wait()
        await rig.save(summary("w", 2))
        rig.cache.evict("w")  # there is nothing that the older value could be compared with
        rig.store.go_on.set()
        assert await loading == 1
        assert await rig.seen() == 2

    async def test_a_cache_that_is_behind_is_not_filled(self, rig: Rig) -> None:
        await rig.save(summary("v"))
        rig.gateway.require({0: 99})
        await rig.seen()
        assert not [point for point in rig.faults.points if "fill" in point]


class TestSaving:
    async def test_an_older_offset_changes_nothing(self, rig: Rig) -> None:
        await rig.save(summary("w", 1))
        for process in (rig.process(), rig.projector):
            await process.save([summary("w", 7)], offset=rig.offset)
            await process.save([summary("w", 8)], offset=rig.offset - 1)
            assert await rig.seen() == 1
        await rig.save(summary("v", 1))
        assert await rig.seen() == 1
        assert rig.store.loads == 0

    async def test_what_the_store_refuses_is_not_cached(
        self, rig: Rig, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async def full(*_: object, **__: object) -> None:
            raise StorageFull("no room")

        await rig.save(summary("w", 1))
        with monkeypatch.context() as patch:
            patch.setattr(rig.store, "save", full)
            with pytest.raises(StorageFull):
                await rig.save(summary("w", 2))
        assert await rig.seen() == 1
        rig.offset -= 10
        await rig.save(summary("w", 3))
        assert await rig.seen() == 3
        assert rig.store.loads == 0

    async def test_a_save_cut_short_leaves_nothing_stale(self, rig: Rig) -> None:
        """The store has it, the cache never heard of it, and the next save knows that."""
        await rig.save(summary("w", 1), summary("v", 1))
        rig.faults.fail("state_cache.put:before", asyncio.CancelledError())  # type: ignore[arg-type]
        with pytest.raises(asyncio.CancelledError):
            await rig.save(summary("w", 2))
        rig.faults.mend()
        await rig.save(summary("v", 3))
        assert await rig.seen() == 2
        assert await rig.seen("v") == 3

    async def test_a_later_process_goes_on(self, rig: Rig) -> None:
        await rig.save(summary("w", 1))
        await rig.projector.close()
        await rig.store.save([summary("w", 2)], offset=rig.offset + 5)  # and lost its cache
        rig.projector = rig.process()
        await rig.save(summary("v", 3))
        assert (await rig.seen("w"), await rig.seen("v")) == (2, 3)

    async def test_what_is_in_another_partition_than_looked_up_is_not_served(
        self, rig: Rig
    ) -> None:
        process = rig.process()  # which looks everything up in partition 0
        with structlog.testing.capture_logs() as logs:
            for change in range(1, 4):
                await process.save([summary("other")], offset=change)
                await process.save([summary("w", change)], offset=change, partition=4)
                assert (await process.load(["w"]))["w"].seq == change
        assert [log["event"] for log in logs] == ["state_cache.wrong_partition"]
        await process.close()

    async def test_reset_forgets_everything(self, rig: Rig) -> None:
        await rig.save(summary("w", 1))
        await rig.projector.reset()
        assert await rig.seen() is None
        rig.offset = 0
        loads = rig.store.loads
        await rig.save(summary("w", 5))
        assert await rig.seen() == 5
        assert rig.store.loads == loads
        assert await rig.projector.offset() == 10


class TestOutages:
    @pytest.mark.parametrize(
        "error", [Unavailable("gone"), DriverError("credentials"), StorageFull("no room")]
    )
    async def test_nothing_fails_and_one_warning_is_given(self, rig: Rig, error: Exception) -> None:
        await rig.save(summary("w", 1))
        rig.faults.fail(error=error)
        with structlog.testing.capture_logs() as logs:
            for change in range(2, 9):
                await rig.save(summary("w", change))
                assert await rig.seen() == change
                await rig.clock.advance(CONFIRM_S)
        failed = [(log["event"], log["what"], log["error"]) for log in logs]
        assert failed == [
            ("state_cache.failed", "writing", str(error)),
            ("state_cache.failed", "reading", str(error)),
        ]

    async def test_nobody_waits_for_what_has_failed(self, rig: Rig) -> None:
        await rig.save(summary("w", 1))
        rig.faults.fail()
        await rig.save(summary("w", 2))
        await rig.seen()
        tried = len(rig.faults.points)
        for change in range(3, 9):
            await rig.save(summary("w", change))
            await rig.seen()
        assert len(rig.faults.points) == tried

    async def test_it_recovers_by_itself_and_serves_nothing_stale(self, rig: Rig) -> None:
        await rig.save(summary("w", 1), summary("v", 1))
        rig.faults.fail()
        await rig.save(summary("w", 2))
        assert await rig.seen() == 2
        await rig.clock.advance(CONFIRM_S)
        rig.faults.mend()
        with structlog.testing.capture_logs() as logs:
            await rig.clock.advance(CONFIRM_S)
        assert {log["event"] for log in logs} == {"state_cache.recovered"}
        loads = rig.store.loads
        assert [await rig.seen() for _ in range(3)] == [2, 2, 2]
        assert rig.store.loads == loads + 1
        await rig.save(summary("v", 3))
        assert await rig.seen("v") == 3
        assert await rig.seen() == 2
        assert rig.store.loads == loads + 1

    async def test_where_only_the_writer_is_cut_off_readers_turn_to_the_store(
        self, rig: Rig
    ) -> None:
        await rig.save(summary("w", 1))
        rig.faults.fail("state_cache.put")
        await rig.save(summary("w", 2))
        assert await rig.seen() == 1  # old, and it says so
        await rig.clock.advance(LATE_S)
        assert await rig.seen() == 2

    async def test_closing_ends_what_runs(self, rig: Rig) -> None:
        await rig.save(summary("w", 1))
        rig.faults.fail()
        await rig.seen()
        for process in (rig.projector, rig.gateway):
            await process.close()
            await process.close()
        assert len(asyncio.all_tasks()) == 1


class TestAnyOrder:
    """Whatever fails or is evicted at whatever moment: what was required is seen."""

    @pytest.mark.parametrize("seed", range(60))
    async def test_nothing_older_than_required_is_loaded(self, seed: int) -> None:
        dice = random.Random(seed)
        clock, store = VirtualClock(), MemoryStateStore()
        ids = ["a", "b", "c"]

        async def on_io(point: str) -> None:
            for _ in range(dice.randrange(6)):
                await asyncio.sleep(0)
            if dice.random() < 0.1:
                cache.evict(dice.choice(ids))
            if dice.random() < trouble:
                raise Unavailable(point)

        trouble = 0.0
        cache = MemoryStateCache(clock, on_io)
        made = 0

        def process() -> CachedStateStore:
            return CachedStateStore(store, cache, clock)

        projector, readers = process(), [process(), process()]
        reached = 0
        changes = dict.fromkeys(ids, 0)  # by workflow: the last that a barrier has waited for

        async def project() -> None:
            nonlocal projector, reached, made
            for _ in range(60):
                made += 1
                changed = dice.sample(ids, dice.randrange(4))
                await projector.save([summary(key, made) for key in changed], offset=made)
                reached = made
                changes.update(dict.fromkeys(changed, made))
                if dice.random() < 0.1:
                    await projector.close()
                    projector = process()

        async def read(reader: CachedStateStore) -> None:
            while not projecting.done():
                least = dict(changes)
                reader.require({0: reached})
                wanted = dice.sample(ids, 2)
                found = await reader.load(wanted)
                for key in wanted:
                    assert (found[key].seq if key in found else 0) >= least[key]
                await asyncio.sleep(0)

        projecting = asyncio.create_task(project())
        reading = [asyncio.create_task(read(reader)) for reader in readers for _ in range(2)]
        while not projecting.done():
            trouble = dice.choice([0.0, 0.0, 0.02, 0.3])
            await clock.advance(dice.choice([0.001, 0.3, 1.0]))
        await asyncio.gather(projecting, *reading)
        for one in (projector, *readers):
            await one.close()


async def test_what_a_failed_save_has_stored_is_not_hidden_by_what_was_cached_before() -> None:
    """Projected again, such a summary has not changed, so it is not saved, nor put, again."""
    faults, clock = Faults(), VirtualClock()
    states = CachedStateStore(MemoryStateStore(faults), MemoryStateCache(clock), clock)
    await states.save([summary("a", 1)], offset=1)
    faults.fail("state_store.save:between")
    with pytest.raises(Unavailable):
        await states.save([summary("a", 2)], offset=2)
    faults.mend()

    await states.save([summary("b", 1)], offset=3)

    assert await states.load(["a", "b"]) == {"a": summary("a", 2), "b": summary("b", 1)}
    await states.close()
