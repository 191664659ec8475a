"""What every state store does."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from orchx.errors import InvalidRequest
from orchx.ports.state_store import Filter, StateStore
from tests.summaries import summary

LARGE = "WzE4NDQ2NzQ0MDczNzA5NTUxNjE2LCJhIl0"  # [18446744073709551616,"a"]


async def ids(store: StateStore, filter_: Filter) -> list[str]:
    return [s.workflow_id for s in (await store.list(filter_)).workflows]


class TestStateStore:
    async def test_is_empty_at_first(self, store: StateStore) -> None:
        assert await store.offset() == 0
        assert await store.load(["a"]) == {}
        assert await store.load([]) == {}
        assert (await store.list(Filter())).cursor is None
        assert await store.counts() == {}

    async def test_gives_back_what_was_saved(self, store: StateStore) -> None:
        full = summary(
            "a",
            type="t",
            listens=("x", "*"),
            output={"é": [1, None, 2.5]},
            error={"status": 500},
            labels={"k": "v"},
            due_at_ms=7,
            passivated=True,
        )
        await store.save([full, summary("b")], offset=3)
        assert await store.load(["a", "b", "c"]) == {"a": full, "b": summary("b")}
        assert await store.offset() == 3

    async def test_saves_over_what_was_there(self, store: StateStore) -> None:
        await store.save([summary("a")], offset=1)
        await store.save([summary("a", epoch=1), summary("a", status="completed")], offset=2)
        assert (await store.load(["a"]))["a"].status == "completed"
        assert await store.counts() == {"completed": 1}

    @pytest.mark.parametrize("offset", [4, 5])
    async def test_an_offset_not_above_changes_nothing(
        self, store: StateStore, offset: int
    ) -> None:
        await store.save([summary("a")], offset=5)
        await store.save([summary("a", status="faulted"), summary("b")], offset=offset)
        assert await store.load(["a", "b"]) == {"a": summary("a")}
        assert await store.offset() == 5

    async def test_each_partition_has_an_offset_of_its_own(self, store: StateStore) -> None:
        await store.save([summary("a")], offset=5)
        await store.save([summary("b")], offset=3, partition=7)
        await store.save([summary("b", status="faulted")], offset=3, partition=7)
        assert [await store.offset(p) for p in (0, 7, 1)] == [5, 3, 0]
        assert (await store.load(["b"]))["b"].status == "running"

    async def test_partitions_are_saved_at_once(self, store: StateStore) -> None:
        async def save(partition: int) -> None:
            made = [summary(f"w{partition}-{number}") for number in range(20)]
            await store.save(made, offset=partition + 1, partition=partition)

        await asyncio.gather(*map(save, range(8)))
        assert [await store.offset(p) for p in range(8)] == list(range(1, 9))
        assert await store.counts() == {"running": 160}

    async def test_an_offset_alone_moves(self, store: StateStore) -> None:
        await store.save([], offset=9)
        assert await store.offset() == 9

    async def test_saves_many(self, store: StateStore) -> None:
        await store.save([summary(f"w{number:04}") for number in range(700)], offset=1)
        assert await store.counts() == {"running": 700}

    async def test_filters(self, store: StateStore) -> None:
        await store.save(
            [
                summary("a", 100),
                summary("b", 200, tenant="globex", type="t", status="faulted"),
                summary("c", 300, name="other", namespace="m", status="waiting"),
            ],
            offset=1,
        )
        assert await ids(store, Filter()) == ["c", "b", "a"]
        assert await ids(store, Filter(status=("waiting", "faulted"))) == ["c", "b"]
        assert await ids(store, Filter(tenant="globex")) == ["b"]
        assert await ids(store, Filter(type="t")) == ["b"]
        assert await ids(store, Filter(name="other")) == ["c"]
        assert await ids(store, Filter(namespace="n", tenant="acme")) == ["a"]
        assert await ids(store, Filter(created_after_ms=100)) == ["c", "b"]
        assert await ids(store, Filter(created_before_ms=300)) == ["b", "a"]

    async def test_filters_by_labels_that_are_all_there(self, store: StateStore) -> None:
        await store.save(
            [
                summary("a", 100, labels={"team": "x", 'odd"key': "1"}),
                summary("b", 200, labels={"team": "x", "also": ""}),
                summary("c", 300),
            ],
            offset=1,
        )
        for labels, found in [
            ((("team", "x"),), ["b", "a"]),
            ((('odd"key', "1"),), ["a"]),
            ((("team", "y"),), []),
            ((("team", "x"), ('odd"key', "1")), ["a"]),
            ((("team", "x"), ("also", "")), ["b"]),
            ((("team", "x"), ("also", "x")), []),
            ((("also", ""), ('odd"key', "1")), []),
            ((("team", "x"), ("team", "y")), []),
            ((), ["c", "b", "a"]),
        ]:
            assert await ids(store, Filter(labels=labels)) == found

    async def test_pages_are_stable_under_inserts(self, store: StateStore) -> None:
        # Equal times: the id decides.
        await store.save([summary(f"w{n}", 100 + n // 2) for n in range(6)], offset=1)
        page = await store.list(Filter(limit=2))
        seen = [s.workflow_id for s in page.workflows]
        await store.save([summary("newer", 900), summary("w5", 102, epoch=3)], offset=2)
        while page.cursor is not None:
            page = await store.list(Filter(limit=2, cursor=page.cursor))
            seen += [s.workflow_id for s in page.workflows]
        assert seen == ["w5", "w4", "w3", "w2", "w1", "w0"]

    async def test_the_last_full_page_has_no_cursor(self, store: StateStore) -> None:
        await store.save([summary("a"), summary("b")], offset=1)
        assert (await store.list(Filter(limit=2))).cursor is None

    @pytest.mark.parametrize("cursor", ["", "nonsense", "é", "e30", "W10", "=", "bnVsbA", LARGE])
    async def test_a_bad_cursor_is_the_callers_fault(self, store: StateStore, cursor: str) -> None:
        with pytest.raises(InvalidRequest):
            await store.list(Filter(cursor=cursor))

    async def test_lists_unfinished_for_recovery(self, store: StateStore) -> None:
        await store.save(
            [
                summary("e"),
                summary("d", status="waiting"),
                summary("c", status="completed"),
                summary("b", status="suspended"),
                summary("a", status="pending"),
                summary("f", status="faulted"),
                summary("g", status="cancelled"),
            ],
            offset=1,
        )
        first = await store.unfinished(after_id="", limit=3)
        assert [s.workflow_id for s in first] == ["a", "b", "d"]
        rest = await store.unfinished(after_id="d", limit=3)
        assert [s.workflow_id for s in rest] == ["e"]

    async def test_reset_forgets_everything(self, store: StateStore) -> None:
        await store.save([summary("a")], offset=5)
        await store.reset()
        assert await store.offset() == 0
        assert await store.load(["a"]) == {}
        await store.save([summary("b")], offset=1)
        assert await store.counts() == {"running": 1}

    async def test_another_opening_sees_the_same_state(
        self, state_stores: Callable[[], StateStore]
    ) -> None:
        one, other = state_stores(), state_stores()
        await one.save([summary("a")], offset=1)
        assert await other.load(["a"]) == {"a": summary("a")}
