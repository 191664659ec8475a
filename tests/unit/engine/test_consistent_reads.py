"""Strongly consistent reads of a workflow, and the age of the others."""

from __future__ import annotations

import asyncio

import pytest

from orchx.engine import gateway as gateway_module
from orchx.engine.freshness import PATIENCE_S, REFRESH_MS, TOLERATED_MS
from orchx.errors import DriverError, NotFound, OrchxError, StorageFull, Unavailable
from tests import summaries
from tests.unit.engine.gateway_rig import Rig, ending, make_rig, start

PARTITION = 3


class Projection:
    """Catches up when it is told to; counts who asks, and for which partition."""

    def __init__(self) -> None:
        self.asked: list[int | None] = []
        self.failure: OrchxError | None = None
        self.caught_up = asyncio.Event()
        self.caught_up.set()

    async def __call__(self, partition: int) -> None:
        self.asked.append(partition)
        await self.caught_up.wait()
        if self.failure is not None:
            raise self.failure


@pytest.fixture
async def projection() -> Projection:
    return Projection()


@pytest.fixture
async def rig(projection: Projection) -> Rig:
    return make_rig(barrier=projection, partition_of=lambda _: PARTITION)


async def _save(rig: Rig, task: str, offset: int) -> None:
    await rig.store.save([summaries.summary("wf", task=task)], offset=offset)


class TestStrong:
    async def test_it_waits_for_its_partition_and_then_looks(
        self, rig: Rig, projection: Projection
    ) -> None:
        await _save(rig, "/do/0", 1)
        projection.caught_up.clear()
        reading = asyncio.create_task(rig.gateway.show_aged("wf", strong=True))
        await rig.clock.advance(0)
        assert not reading.done()
        await _save(rig, "/do/1", 2)
        projection.caught_up.set()
        found = await reading
        assert (found.summary.task, found.age_ms) == ("/do/1", 0)
        assert projection.asked == [PARTITION]

    async def test_what_is_accepted_and_not_in_the_log_is_pending(self, rig: Rig) -> None:
        await rig.gateway.submit([start()])
        assert (await rig.gateway.show_aged("wf", strong=True)).summary.status == "pending"
        elsewhere = make_rig()
        await elsewhere.queue.put([start()])  # by another process
        found = await elsewhere.gateway.show_aged("wf", strong=True)
        assert found.summary.status == "pending"

    async def test_what_nobody_knows_is_not_there(self, rig: Rig) -> None:
        with pytest.raises(NotFound):
            await rig.gateway.show_aged("nope", strong=True)

    @pytest.mark.parametrize("kind", [Unavailable, DriverError, StorageFull])
    async def test_a_projection_that_fails_is_told_never_hidden(
        self, rig: Rig, projection: Projection, kind: type[OrchxError]
    ) -> None:
        await _save(rig, "/do/0", 1)
        projection.failure = kind("the projector restarts")
        with pytest.raises(Unavailable, match=r"no strongly.*the projector restarts") as told:
            await rig.gateway.show_aged("wf", strong=True)
        assert told.value.retry_after_s > 0

    async def test_it_does_not_wait_for_ever(
        self, rig: Rig, projection: Projection, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        await _save(rig, "/do/0", 1)
        monkeypatch.setattr(gateway_module, "STRONG_READ_S", 0.01)
        projection.caught_up.clear()
        with pytest.raises(Unavailable, match="not all is projected"):
            await asyncio.wait_for(rig.gateway.show_aged("wf", strong=True), 5)


class TestAge:
    async def test_it_counts_from_the_latest_question_that_was_answered(self, rig: Rig) -> None:
        await _save(rig, "/do/0", 1)
        assert (await rig.gateway.show_aged("wf")).age_ms == 0
        await rig.clock.advance(0.3)
        assert (await rig.gateway.show_aged("wf")).age_ms == 300

    async def test_it_counts_from_the_question_not_from_the_answer(
        self, rig: Rig, projection: Projection
    ) -> None:
        await _save(rig, "/do/0", 1)
        projection.caught_up.clear()
        reading = asyncio.create_task(rig.gateway.show_aged("wf"))
        await rig.clock.advance(PATIENCE_S / 2)
        projection.caught_up.set()
        assert (await reading).age_ms == PATIENCE_S / 2 * 1000

    async def test_reads_ask_once_an_interval_however_many_they_are(
        self, rig: Rig, projection: Projection
    ) -> None:
        await _save(rig, "/do/0", 1)
        for _ in range(3):
            reads = [rig.gateway.show_aged("wf") for _ in range(20)]
            assert all((one.age_ms or 0) <= REFRESH_MS for one in await asyncio.gather(*reads))
            await rig.clock.advance(REFRESH_MS / 1000)
        assert len(projection.asked) == 3

    async def test_nobody_asks_while_nobody_reads(self, rig: Rig, projection: Projection) -> None:
        await _save(rig, "/do/0", 1)
        await rig.gateway.show_aged("wf")
        await rig.clock.advance(3600)
        assert len(projection.asked) == 1
        assert (await rig.gateway.show_aged("wf")).age_ms == 0  # it waited a moment for the answer

    async def test_a_young_answer_is_not_waited_for(self, rig: Rig, projection: Projection) -> None:
        await _save(rig, "/do/0", 1)
        await rig.gateway.show_aged("wf")
        projection.caught_up.clear()
        await rig.clock.advance(TOLERATED_MS / 1000 - 0.1)
        assert (await rig.gateway.show_aged("wf")).age_ms == TOLERATED_MS - 100

    async def test_a_projection_that_hangs_is_waited_for_once(
        self, rig: Rig, projection: Projection
    ) -> None:
        await _save(rig, "/do/0", 1)
        await rig.gateway.show_aged("wf")
        projection.caught_up.clear()
        await rig.clock.advance(60)
        first = asyncio.create_task(rig.gateway.show_aged("wf"))
        await rig.clock.advance(PATIENCE_S)
        assert (await first).age_ms == 60_000 + round(PATIENCE_S * 1000)
        assert (await rig.gateway.show_aged("wf")).age_ms == 60_000 + round(PATIENCE_S * 1000)
        projection.caught_up.set()
        await rig.clock.advance(1)
        await rig.gateway.show_aged("wf")
        await rig.clock.advance(0)
        assert (await rig.gateway.show_aged("wf")).age_ms == 0

    async def test_without_any_answer_nothing_is_claimed(
        self, rig: Rig, projection: Projection
    ) -> None:
        await _save(rig, "/do/0", 1)
        projection.failure = Unavailable("there is no actor projector now")
        for _ in range(5):
            found = await rig.gateway.show_aged("wf")
            assert (found.summary.task, found.age_ms) == ("/do/0", None)
        assert len(projection.asked) == 1  # a failure is not asked again at once either

    async def test_what_is_over_stays_as_it_is(self, rig: Rig, projection: Projection) -> None:
        projection.failure = Unavailable("away")
        await rig.store.save([gateway_module.ended(start(), ending())], offset=1)
        assert (await rig.gateway.show_aged("wf")).age_ms == 0

    async def test_a_clock_that_goes_back_makes_nothing_younger_than_now(
        self, rig: Rig, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        await _save(rig, "/do/0", 1)
        await rig.gateway.show_aged("wf")
        monkeypatch.setattr(rig.clock, "now_ms", lambda: 5)
        assert (await rig.gateway.show_aged("wf")).age_ms == 0
