"""Alarms: each rings by itself, whatever another does."""

from __future__ import annotations

import logging
from collections.abc import Callable

import pytest

from orchx.engine.alarm_wheel import AlarmWheel
from tests.unit.engine.pool_fakes import ManualClock


class Bell:
    """Something with an alarm; `rung` is called when it rings."""

    def __init__(self, rung: Callable[[], object]) -> None:
        self.alarm_tick = 0
        self.rung = rung


def ring(bell: Bell) -> None:
    bell.rung()


def fail() -> None:
    raise KeyError(7)


async def test_an_alarm_that_fails_keeps_no_other_from_ringing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    clock, heard = ManualClock(), list[str]()
    wheel = AlarmWheel(clock, ring)
    due_ms = clock.ticks_ms() + 100
    wheel.set(Bell(fail), due_ms)
    wheel.set(Bell(lambda: heard.append("same tick")), due_ms)
    wheel.set(Bell(lambda: heard.append("later")), due_ms + 500)
    with caplog.at_level(logging.ERROR):
        await clock.pass_ms(700)
    assert heard == ["same tick", "later"]
    assert "KeyError" in caplog.text

    wheel.set(Bell(lambda: heard.append("set afterwards")), clock.ticks_ms() + 100)
    await clock.pass_ms(200)
    assert heard[-1] == "set afterwards"


async def test_an_alarm_cleared_by_another_of_its_tick_does_not_ring() -> None:
    clock, heard = ManualClock(), list[str]()
    wheel = AlarmWheel(clock, ring)
    second = Bell(lambda: heard.append("second"))

    def silence() -> None:
        heard.append("first")
        wheel.clear(second)

    first = Bell(silence)
    due_ms = clock.ticks_ms() + 100
    for bell in (first, second):
        wheel.set(bell, due_ms)
    await clock.pass_ms(200)
    assert heard == ["first"]
    assert len(wheel) == 0


async def test_an_alarm_set_again_while_it_rings_rings_again() -> None:
    clock, heard = ManualClock(), list[int]()
    wheel = AlarmWheel(clock, ring)

    def again() -> None:
        heard.append(clock.ticks_ms())
        if len(heard) < 3:
            wheel.set(bell, clock.ticks_ms())

    bell = Bell(again)
    wheel.set(bell, clock.ticks_ms() + 8)
    await clock.pass_ms(100)
    assert len(heard) == 3
