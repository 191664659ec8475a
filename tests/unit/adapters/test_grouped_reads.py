"""Single reads that are made a group at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping

import pytest

from orchx.adapters import grouped_reads
from orchx.adapters.grouped_reads import GROUP_MAX, GroupedReads
from orchx.errors import Unavailable


class Store:
    """Answers when it is let."""

    def __init__(self) -> None:
        self.groups: list[list[str]] = []
        self.let = asyncio.Semaphore(0)
        self.failing = False
        self.reads = GroupedReads(self.read, "missing")

    async def read(self, keys: Collection[str]) -> Mapping[str, str]:
        self.groups.append(list(keys))
        await self.let.acquire()
        if self.failing:
            raise Unavailable("away")
        return {key: f"value of {key}" for key in keys if key != "none"}

    async def begin(self, *keys: str) -> list[asyncio.Task[str]]:
        calls = [asyncio.create_task(self.reads.get(key)) for key in keys]
        for _ in range(5):
            await asyncio.sleep(0)
        return calls


@pytest.fixture(autouse=True)
def one_reader(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grouped_reads, "AT_ONCE", 1)


async def test_what_waits_is_read_together_and_each_gets_its_own() -> None:
    store = Store()
    first = await store.begin("a")
    later = await store.begin("b", "none", "b", "a")
    assert store.groups == [["a"]]
    for _ in range(2):
        store.let.release()
    assert await asyncio.gather(*first) == ["value of a"]
    assert await asyncio.gather(*later) == ["value of b", "missing", "value of b", "value of a"]
    assert store.groups == [["a"], ["b", "none", "a"]]  # "a" anew: it may be another by now


async def test_groups_are_bounded() -> None:
    store = Store()
    keys = [f"{number}" for number in range(2 * GROUP_MAX + 1)]
    calls = await store.begin(*keys)
    for _ in range(3):
        store.let.release()
    assert await asyncio.gather(*calls) == [f"value of {key}" for key in keys]
    assert [len(group) for group in store.groups] == [GROUP_MAX, GROUP_MAX, 1]


async def test_a_failure_is_told_to_all_who_wait_and_to_nobody_later() -> None:
    store = Store()
    calls = await store.begin("a")
    calls += await store.begin("b", "c")
    calls[1].cancel()
    store.failing = True
    store.let.release()
    ends = await asyncio.gather(*calls, return_exceptions=True)
    assert [type(end) for end in ends] == [Unavailable, asyncio.CancelledError, Unavailable]
    store.failing = False
    store.let.release()
    assert await asyncio.gather(*await store.begin("b")) == ["value of b"]
    assert store.groups == [["a"], ["b"]]
