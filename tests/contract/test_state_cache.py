"""What every cache of current states does."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from orchx.ports.state_cache import CacheView, StateCache
from orchx.ports.state_store import WorkflowSummary
from tests import summaries

P = 3  # the partition that most tests use


def summary(workflow_id: str, task: str = "/do/0", **changes: object) -> WorkflowSummary:
    return summaries.summary(workflow_id, 100, task=task, **changes)


async def view(cache: StateCache, *workflow_ids: str, partition: int = P) -> CacheView:
    seen = await cache.get(workflow_ids, partition=partition)
    assert seen is not None
    return seen


async def tasks(cache: StateCache, *workflow_ids: str, partition: int = P) -> dict[str, str | None]:
    """Look up without leaving a lease behind that matters to the test."""
    found = (await view(cache, *workflow_ids, partition=partition)).found
    return {key: one.task for key, one in found.items()}


class TestStateCache:
    async def test_knows_nothing_at_first(self, cache: StateCache) -> None:
        assert await cache.get(["a"], partition=P) is None
        assert await cache.get([], partition=P) is None
        await cache.fill([summary("a")], partition=P, lease="0123456789abcdef?x")
        assert await cache.get(["a"], partition=P) is None

    async def test_gives_back_what_was_put(self, cache: StateCache) -> None:
        full = summary(
            "a",
            type="t",
            listens=("x", "*"),
            listening=(1, 2),
            output={"é": [1, None, 2.5, "\0"]},
            error={"status": 500},
            labels={"k": "v"},
            due_at_ms=7,
            passivated=True,
        )
        await cache.put([full, summary("é:{b}")], after=0, offset=7, partition=P)
        seen = await view(cache, "a", "é:{b}", "c")
        assert seen.found == {"a": full, "é:{b}": summary("é:{b}")}
        assert seen.offset == 7
        assert 0 <= seen.age_ms < 60_000

    async def test_what_goes_on_without_a_gap_stays(self, cache: StateCache) -> None:
        await cache.put([summary("a"), summary("b")], after=4, offset=7, partition=P)
        await cache.put([summary("b", "/do/1")], after=7, offset=9, partition=P)
        await cache.put([], after=9, offset=12, partition=P)
        assert await tasks(cache, "a", "b") == {"a": "/do/0", "b": "/do/1"}
        assert (await view(cache)).offset == 12

    async def test_a_gap_makes_everything_before_it_unknown(self, cache: StateCache) -> None:
        await cache.put([summary("a"), summary("b")], after=0, offset=7, partition=P)
        await cache.put([summary("b", "/do/1")], after=8, offset=9, partition=P)
        assert await tasks(cache, "a", "b") == {"b": "/do/1"}
        assert (await view(cache)).offset == 9

    async def test_confirming_changes_nothing_but_the_age(self, cache: StateCache) -> None:
        await cache.put([summary("a")], after=0, offset=7, partition=P)
        await cache.put([], after=7, offset=7, partition=P)
        assert await tasks(cache, "a") == {"a": "/do/0"}
        assert (await view(cache)).offset == 7

    async def test_partitions_are_apart(self, cache: StateCache) -> None:
        await cache.put([summary("a")], after=0, offset=7, partition=1)
        await cache.put([summary("b")], after=0, offset=3, partition=2)
        await cache.put([summary("c")], after=6, offset=8, partition=2)  # a gap
        assert await tasks(cache, "a", "b", "c", partition=1) == {"a": "/do/0"}
        assert await tasks(cache, "a", "b", "c", partition=2) == {"c": "/do/0"}

    async def test_what_was_missing_is_filled_in(self, cache: StateCache) -> None:
        await cache.put([summary("a")], after=0, offset=7, partition=P)
        seen = await view(cache, "a", "b", "none")
        await cache.fill([summary("b")], partition=P, lease=seen.lease)
        assert await tasks(cache, "a", "b", "none") == {"a": "/do/0", "b": "/do/0"}

    async def test_what_was_filled_in_is_put_over(self, cache: StateCache) -> None:
        await cache.put([], after=0, offset=7, partition=P)
        seen = await view(cache, "b")
        await cache.fill([summary("b")], partition=P, lease=seen.lease)
        await cache.put([summary("b", "/do/1")], after=7, offset=8, partition=P)
        assert await tasks(cache, "b") == {"b": "/do/1"}

    async def test_an_older_value_never_replaces_a_newer(self, cache: StateCache) -> None:
        await cache.put([], after=0, offset=7, partition=P)
        seen = await view(cache, "b")
        await cache.put([summary("b", "/do/1")], after=7, offset=8, partition=P)
        await cache.fill([summary("b", "old")], partition=P, lease=seen.lease)
        assert await tasks(cache, "b") == {"b": "/do/1"}

    async def test_what_was_not_asked_for_is_not_filled_in(self, cache: StateCache) -> None:
        await cache.put([summary("a")], after=0, offset=7, partition=P)
        seen = await view(cache, "a", "b")
        await cache.fill([summary("a", "old"), summary("c", "old")], partition=P, lease=seen.lease)
        assert await tasks(cache, "a", "c") == {"a": "/do/0"}

    async def test_one_of_several_readers_fills_in(self, cache: StateCache) -> None:
        await cache.put([], after=0, offset=7, partition=P)
        first, second = await view(cache, "b"), await view(cache, "b")
        await cache.fill([summary("b", "second")], partition=P, lease=second.lease)
        assert await tasks(cache, "b") == {}
        await cache.fill([summary("b", "first")], partition=P, lease=first.lease)
        assert await tasks(cache, "b") == {"b": "first"}

    async def test_a_lease_from_before_a_gap_fills_nothing_in(self, cache: StateCache) -> None:
        await cache.put([], after=0, offset=7, partition=P)
        seen = await view(cache, "b")
        await cache.put([], after=8, offset=9, partition=P)
        await cache.fill([summary("b", "old")], partition=P, lease=seen.lease)
        assert await tasks(cache, "b") == {}
        await cache.put([], after=9, offset=10, partition=P)
        assert await tasks(cache, "b") == {}

    async def test_what_was_leased_before_a_gap_can_be_leased_again(
        self, cache: StateCache
    ) -> None:
        await cache.put([], after=0, offset=7, partition=P)
        await view(cache, "b")
        await cache.put([], after=8, offset=9, partition=P)
        seen = await view(cache, "b")
        await cache.fill([summary("b")], partition=P, lease=seen.lease)
        assert await tasks(cache, "b") == {"b": "/do/0"}

    async def test_takes_many(self, cache: StateCache) -> None:
        ids = [f"w{number:04}" for number in range(900)]
        await cache.put([summary(key) for key in ids], after=0, offset=7, partition=P)
        await cache.put([summary(ids[0], "/do/1")], after=7, offset=8, partition=P)
        found = await tasks(cache, *ids)
        assert list(found) == ids
        assert found[ids[0]] == "/do/1"

    async def test_what_is_large_hides_nothing_newer(self, cache: StateCache) -> None:
        """It may be left out, but then nothing older is in its place."""
        large = summary("a", "/do/1", output="x" * 900_000)
        await cache.put([summary("a"), summary("b")], after=0, offset=7, partition=P)
        await cache.put([large], after=7, offset=8, partition=P)
        seen = await view(cache, "a", "b")
        assert seen.found.get("a", large) == large
        assert seen.found["b"] == summary("b")
        await cache.fill([large], partition=P, lease=seen.lease)
        assert (await view(cache, "a")).found.get("a", large) == large

    async def test_takes_much_at_once(self, cache: StateCache) -> None:
        many = [summary(f"w{number}", output="x" * 200_000) for number in range(60)]
        await cache.put(many, after=0, offset=7, partition=P)
        assert len((await view(cache, *(f"w{number}" for number in range(60)))).found) == 60

    async def test_puts_and_confirmations_at_once(self, cache: StateCache) -> None:
        await cache.put([], after=0, offset=0, partition=P)
        for offset in range(1, 20):
            await asyncio.gather(
                cache.put(
                    [summary("a", str(offset))], after=offset - 1, offset=offset, partition=P
                ),
                cache.put([], after=offset, offset=offset, partition=P),
            )
            assert await tasks(cache, "a") == {"a": str(offset)}

    async def test_clearing_forgets_a_partition(self, cache: StateCache) -> None:
        await cache.put([summary("a")], after=0, offset=7, partition=1)
        await cache.put([summary("b")], after=0, offset=7, partition=2)
        await cache.clear(1)
        assert await cache.get(["a"], partition=1) is None
        assert await tasks(cache, "b", partition=2) == {"b": "/do/0"}
        await cache.put([], after=7, offset=8, partition=1)
        assert await tasks(cache, "a", partition=1) == {}

    async def test_clearing_forgets_everything(self, cache: StateCache) -> None:
        ids = [f"w{number}" for number in range(700)]
        for partition in (1, 2):
            summaries = [summary(key) for key in ids]
            await cache.put(summaries, after=0, offset=7, partition=partition)
        await cache.clear()
        for partition in (1, 2):
            assert await cache.get(["w1"], partition=partition) is None
            await cache.put([], after=7, offset=8, partition=partition)
            assert await tasks(cache, *ids, partition=partition) == {}

    async def test_another_opening_sees_the_same(
        self, state_caches: Callable[[], StateCache]
    ) -> None:
        one, other = state_caches(), state_caches()
        await one.put([summary("a")], after=0, offset=7, partition=P)
        assert await tasks(other, "a") == {"a": "/do/0"}
        seen = await view(other, "b")
        await other.fill([summary("b")], partition=P, lease=seen.lease)
        assert await tasks(one, "b") == {"b": "/do/0"}

    async def test_another_writer_takes_over(self, state_caches: Callable[[], StateCache]) -> None:
        """And the former one, which does not know it, does no harm."""
        one, other = state_caches(), state_caches()
        await one.put([summary("a"), summary("b")], after=0, offset=7, partition=P)
        await other.put([summary("b", "/do/1")], after=7, offset=9, partition=P)
        assert (await tasks(one, "a", "b"))["b"] == "/do/1"
        await one.put([summary("a", "/do/1")], after=7, offset=8, partition=P)
        seen = await view(other, "a", "b")
        assert seen.found["a"].task == "/do/1"
        assert seen.offset == 8
        assert "b" not in seen.found
        await other.put([summary("b", "/do/2")], after=9, offset=11, partition=P)
        seen = await view(one, "a", "b")
        assert seen.found["b"].task == "/do/2"
        assert seen.offset == 11
        assert "a" not in seen.found

    async def test_a_cache_may_be_closed_twice(
        self, state_caches: Callable[[], StateCache]
    ) -> None:
        cache = state_caches()
        await cache.close()
        await cache.close()
