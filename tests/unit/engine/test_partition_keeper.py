"""Taking and giving up partitions: one thing at a time, and again until it is done."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import pytest

from orchx.engine.partition_keeper import RETRY_PAUSE_S, PartitionKeeper
from orchx.errors import Bug, DriverError
from orchx.testing.virtual_clock import VirtualClock


class Server:
    """Notes what it is told; a `take` waits while it is `slow`, and raises `errors` first.

    With something to do `when_done` it gets done though it is cancelled. A `give_up` waits for
    `gives_up`.
    """

    def __init__(self) -> None:
        self.calls: list[tuple[str, list[int]]] = []
        self.errors: list[Exception] = []
        self.slow = asyncio.Event()
        self.slow.set()
        self.when_done: Callable[[], None] | None = None
        self.gives_up = asyncio.Event()
        self.gives_up.set()
        self.busy = 0

    async def take(self, partitions: Sequence[int]) -> None:
        assert not self.busy, "two calls at once"
        self.busy += 1
        try:
            if self.errors:
                raise self.errors.pop(0)
            try:
                await self.slow.wait()
            except asyncio.CancelledError:
                if self.when_done is None:
                    raise
                asyncio.get_running_loop().call_soon(self.when_done)
            self.calls.append(("take", list(partitions)))
        finally:
            self.busy -= 1

    async def give_up(self, partitions: Sequence[int]) -> None:
        assert not self.busy, "two calls at once"
        self.busy += 1
        await self.gives_up.wait()
        self.busy -= 1
        self.calls.append(("give up", list(partitions)))


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


async def test_what_is_given_is_taken_once() -> None:
    server = Server()
    keeper = PartitionKeeper(server, VirtualClock())
    keeper.given([0, 2])
    keeper.given([2])
    await keeper.settled()
    keeper.given([0])
    await keeper.settled()
    assert server.calls == [("take", [0, 2])]


async def test_what_comes_while_others_are_taken_is_taken_next() -> None:
    server = Server()
    server.slow.clear()
    keeper = PartitionKeeper(server, VirtualClock())
    keeper.given([0])
    await asyncio.sleep(0)
    keeper.given([1])
    server.slow.set()
    await keeper.settled()
    assert server.calls == [("take", [0]), ("take", [1])]


async def test_a_failure_is_tried_again_after_a_pause(clock: VirtualClock) -> None:
    server = Server()
    server.errors = [DriverError("no store")]
    keeper = PartitionKeeper(server, clock)
    keeper.given([1])
    await clock.advance(RETRY_PAUSE_S - 0.001)
    assert server.calls == []
    await clock.advance(0.001)
    await keeper.settled()
    assert server.calls == [("take", [1])]


async def test_giving_up_ends_a_recovery_and_begins_it_again_for_the_rest() -> None:
    server = Server()
    server.slow.clear()
    keeper = PartitionKeeper(server, VirtualClock())
    keeper.given([0, 1])
    await asyncio.sleep(0)
    giving_up = asyncio.create_task(keeper.give_up([1]))
    await giving_up
    server.slow.set()
    await keeper.settled()
    assert server.calls == [("give up", [1]), ("take", [0])]


async def test_what_is_given_again_after_it_was_given_up_is_taken_again() -> None:
    server = Server()
    keeper = PartitionKeeper(server, VirtualClock())
    keeper.given([0])
    await keeper.settled()
    await keeper.give_up([0])
    keeper.given([0])
    await keeper.settled()
    assert server.calls == [("take", [0]), ("give up", [0]), ("take", [0])]


async def test_whoever_waits_for_what_is_given_up_meanwhile_waits_no_longer() -> None:
    server = Server()
    server.slow.clear()
    keeper = PartitionKeeper(server, VirtualClock())
    keeper.given([0])
    waiting = asyncio.create_task(keeper.settled())
    await asyncio.sleep(0)
    await keeper.give_up([0])
    async with asyncio.timeout(1):
        await waiting


async def test_a_bug_ends_it_all() -> None:
    server = Server()
    server.errors = [Bug("broken")]
    keeper = PartitionKeeper(server, VirtualClock())
    keeper.given([0])
    with pytest.raises(Bug, match="broken"):
        await keeper.settled()
    with pytest.raises(Bug, match="broken"):
        await keeper.run()


async def test_nothing_is_taken_while_something_is_given_up() -> None:
    """A take that was cancelled may get done all the same; what came meanwhile has to wait."""
    server = Server()
    keeper = PartitionKeeper(server, VirtualClock())
    server.slow.clear()
    server.when_done = lambda: keeper.given([1])
    keeper.given([0])
    await asyncio.sleep(0)
    server.gives_up.clear()
    leaving = asyncio.create_task(keeper.give_up([0]))
    await asyncio.sleep(0)
    server.slow.set()
    for _ in range(10):
        await asyncio.sleep(0)
    assert server.calls == [("take", [0])]
    server.gives_up.set()
    await leaving
    await keeper.settled()
    assert server.calls == [("take", [0]), ("give up", [0]), ("take", [1])]
