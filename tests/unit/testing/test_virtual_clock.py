"""The clock that stands still until it is moved."""

from __future__ import annotations

import asyncio
import contextlib

from orchx.testing.virtual_clock import VirtualClock


async def test_sleepers_wake_in_the_order_they_are_due() -> None:
    clock, woken = VirtualClock(1_000), list[tuple[str, int]]()

    async def sleep(name: str, *delays_s: float) -> None:
        for delay_s in delays_s:
            await clock.sleep(delay_s)
            woken.append((name, clock.now_ms()))

    tasks = [
        asyncio.create_task(sleep(*args)) for args in (("late", 3), ("twice", 1, 1), ("too", 1))
    ]
    await clock.advance(2.5)
    assert woken == [("twice", 2_000), ("too", 2_000), ("twice", 3_000)]
    assert clock.now_ms() == 3_500
    assert clock.next_due_ms() == 4_000
    await clock.advance(0.5)
    assert woken[-1] == ("late", 4_000)
    assert clock.next_due_ms() is None
    await asyncio.gather(*tasks)


async def test_nobody_wakes_early_and_the_cancelled_never() -> None:
    clock = VirtualClock()
    task = asyncio.create_task(clock.sleep(1))
    await clock.advance(0.999)
    assert not task.done()
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    assert clock.next_due_ms() is None
    await clock.advance(5)
    assert task.cancelled()


async def test_sleeping_no_time_lets_others_run() -> None:
    await VirtualClock().sleep(0)
    await VirtualClock().sleep(-1)


async def test_the_walls_time_is_set_without_anybody_waking() -> None:
    clock = VirtualClock(1_000)
    task = asyncio.create_task(clock.sleep(5))
    await clock.advance(1)
    begun_ms = clock.ticks_ms()
    clock.set_wall(3_600)
    assert (clock.now_ms(), clock.ticks_ms()) == (3_602_000, begun_ms)
    clock.set_wall(-7_200)
    await clock.advance(1)
    assert clock.now_ms() == 3_000 - 3_600_000
    assert (clock.ticks_ms() - begun_ms, task.done()) == (1_000, False)
    assert clock.next_due_ms() == 6_000 - 3_600_000
    await clock.advance(3)
    assert task.done()
