"""Whether requests can be taken: who is asked how often, and what is said."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
import structlog

from orchx.engine import readiness as module
from orchx.engine.readiness import FRESH_MS, ReadinessCheck
from orchx.errors import DriverError, StorageFull, Unavailable
from orchx.ports.gateway import Readiness
from orchx.testing.virtual_clock import VirtualClock


class Part:
    """Answers as a test says, and counts."""

    def __init__(self) -> None:
        self.asked = 0
        self.error: Exception | None = None
        self.answers = asyncio.Event()
        self.answers.set()

    async def check(self) -> None:
        self.asked += 1
        await self.answers.wait()
        if self.error is not None:
            raise self.error


class Rig:
    def __init__(self) -> None:
        self.needed, self.advisory, self.clock = Part(), Part(), VirtualClock()
        self.check = ReadinessCheck(
            {"kafka": self.needed.check}, self.clock, advisory={"redis": self.advisory.check}
        )

    async def later(self) -> Readiness:
        """Ask when nothing is fresh any more."""
        await self.clock.advance(FRESH_MS / 1000)
        return await self.check.ready()


@pytest.fixture
async def rig(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Rig]:
    monkeypatch.setattr(module, "READY_TIMEOUT_S", 0.01)
    made = Rig()
    yield made
    made.needed.answers.set()
    await asyncio.sleep(0)


async def test_an_answer_serves_everybody_for_a_second(rig: Rig) -> None:
    first, *others = await asyncio.gather(*(rig.check.ready() for _ in range(10)))
    assert first == Readiness(ready=True, parts={"kafka": "ok", "redis": "ok"})
    assert all(other is first for other in others)
    await rig.clock.advance((FRESH_MS - 1) / 1000)
    assert await rig.check.ready() is first
    assert rig.needed.asked == 1
    rig.clock.set_wall(-3_600)
    await rig.later()
    assert rig.needed.asked == 2


@pytest.mark.parametrize("error", [DriverError("x"), StorageFull("x"), Unavailable("x")])
async def test_what_does_not_work_is_told_until_it_does(rig: Rig, error: Exception) -> None:
    rig.needed.error = error
    found = await rig.check.ready()
    assert (found.ready, found.parts["kafka"]) == (False, "x")
    rig.needed.error = None
    assert (await rig.later()).ready


async def test_a_bug_in_one_part_is_told_beside_what_the_others_say(rig: Rig) -> None:
    rig.needed.error = KeyError("leader")
    rig.advisory.error = Unavailable("Redis is out of reach")
    with structlog.testing.capture_logs() as logs:
        for _ in range(2):
            found = await rig.later()
            assert (found.ready, found.parts["kafka"]) == (False, "KeyError: 'leader'")
            assert found.parts["redis"] == "not needed: Redis is out of reach"
    assert [(line["event"], line["part"]) for line in logs] == [("readiness.failed", "kafka")]
    rig.needed.error = None
    assert (await rig.later()).ready


async def test_what_is_not_needed_keeps_nobody_from_being_ready(rig: Rig) -> None:
    rig.advisory.error = Unavailable("Redis is out of reach")
    found = await rig.check.ready()
    assert found.ready
    assert found.parts["redis"] == "not needed: Redis is out of reach"


async def test_a_silent_part_is_asked_once_and_its_last_words_are_told(rig: Rig) -> None:
    rig.needed.error = DriverError("refused")
    await rig.check.ready()
    rig.needed.answers.clear()
    assert (await rig.later()).parts["kafka"].endswith("; before: refused")
    assert not (await rig.later()).ready
    assert rig.needed.asked == 2
    rig.needed.error = None
    rig.needed.answers.set()
    assert (await rig.later()).ready
    rig.needed.answers.clear()
    assert (await rig.later()).parts["kafka"] == "no answer within 0.01 s"


async def test_whoever_leaves_disturbs_nobody(rig: Rig) -> None:
    rig.needed.answers.clear()
    leaver, stayer = (asyncio.create_task(rig.check.ready()) for _ in range(2))
    await asyncio.sleep(0)
    leaver.cancel()
    rig.needed.answers.set()
    assert (await stayer).ready
    assert leaver.cancelled()
