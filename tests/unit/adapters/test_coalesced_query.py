"""One query for all who ask at the same time."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from orchx.adapters.coalesced_query import Coalesced, CoalescedQuery
from orchx.errors import DriverError, Unavailable


class Source:
    """Answers when it is let; each answer has a number and the keys it is for."""

    def __init__(self) -> None:
        self.asked: list[frozenset[str]] = []
        self.let = asyncio.Semaphore(0)
        self.failing = False

    async def ask(self, keys: frozenset[str]) -> tuple[int, frozenset[str]]:
        self.asked.append(keys)
        number = len(self.asked)
        await self.let.acquire()
        if self.failing:
            raise DriverError("no")
        return number, keys


async def settled() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_who_asks_at_once_shares_one_query() -> None:
    source = Source()
    query = CoalescedQuery(source.ask)
    calls = [asyncio.create_task(query.get([key])) for key in "ab"]
    source.let.release()
    assert await asyncio.gather(*calls) == [(1, frozenset("ab"))] * 2


async def test_who_comes_later_gets_a_later_query() -> None:
    source = Source()
    query = CoalescedQuery(source.ask)
    first = asyncio.create_task(query.get(["a"]))
    await settled()
    later = [asyncio.create_task(query.get([key])) for key in "bc"]
    await settled()
    assert source.asked == [frozenset("a")]
    source.let.release()
    source.let.release()
    assert await first == (1, frozenset("a"))
    assert await asyncio.gather(*later) == [(2, frozenset("bc"))] * 2


async def test_a_failure_is_that_of_its_callers_only() -> None:
    source = Source()
    query = CoalescedQuery(source.ask)
    source.failing = True
    first = asyncio.create_task(query.get())
    await settled()
    second = asyncio.create_task(query.get())
    source.let.release()
    with pytest.raises(DriverError):
        await first
    source.failing = False
    source.let.release()
    assert (await second)[0] == 2


async def test_one_who_leaves_takes_nothing_from_the_others() -> None:
    source = Source()
    query = CoalescedQuery(source.ask)
    leaver, stayer = (asyncio.create_task(query.get()) for _ in range(2))
    await settled()
    leaver.cancel()
    source.let.release()
    assert (await stayer)[0] == 1
    await query.close()


async def test_work_gets_every_item_in_the_order_of_the_calls() -> None:
    done: list[list[int]] = []

    async def work(items: Sequence[int]) -> int:
        done.append(list(items))
        await asyncio.sleep(0)
        return sum(items)

    coalesced = Coalesced(work)
    first = asyncio.create_task(coalesced.join([3, 3]))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    results = await asyncio.gather(first, coalesced.join([2]), coalesced.join([1, 2]))
    assert list(results) == [6, 5, 5]
    assert done == [[3, 3], [2, 1, 2]]


async def test_one_that_is_at_fault_fails_alone() -> None:
    done: list[list[int]] = []

    async def work(items: Sequence[int]) -> int:
        done.append(list(items))
        if 0 in items:
            raise DriverError("cannot be stored")
        if 9 in items:
            raise Unavailable("out of reach")
        return sum(items)

    coalesced = Coalesced(work, apart=(DriverError,))
    calls = [coalesced.join([0]), coalesced.join([1]), coalesced.join([2, 3])]
    bad, *good = await asyncio.gather(*calls, return_exceptions=True)
    assert isinstance(bad, DriverError)
    assert good == [1, 5]
    assert done == [[0, 1, 2, 3], [0], [1], [2, 3]]
    done.clear()
    with pytest.raises(DriverError):
        await coalesced.join([0])
    calls = [coalesced.join([9]), coalesced.join([1])]
    away = await asyncio.gather(*calls, return_exceptions=True)
    assert [type(error) for error in away] == [Unavailable, Unavailable]
    assert done == [[0], [9, 1]]


async def test_who_has_much_has_it_done_alone() -> None:
    done: list[list[int]] = []

    async def work(items: Sequence[int]) -> int:
        done.append(list(items))
        return sum(items)

    coalesced = Coalesced(work)
    calls = [coalesced.join([1]), coalesced.join([8, 8], alone=True), coalesced.join([2])]
    assert list(await asyncio.gather(*calls)) == [3, 16, 3]
    assert sorted(done) == [[1, 2], [8, 8]]
