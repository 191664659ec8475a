"""The projection is the fold of the log, whatever crashes, fails or comes twice."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from orchx.domain import events as e
from orchx.domain.lineage import AcceptedRecords
from orchx.engine.projector import Projector
from orchx.engine.summary import LiveSummary
from orchx.errors import DriverError, Unavailable
from orchx.ports.state_store import WorkflowSummary
from orchx.settings import Settings
from tests.unit.engine.fakes import Awaits, CrashError, FakeClock, FakeLog, FakeStore, settle
from tests.unit.engine.histories import interleaved, simple_run, started, task_started, turn


class Ear:
    def __init__(self, awaits: Awaits | None = None) -> None:
        self.heard: list[e.Record] = []
        self.awaits = awaits or Awaits()

    async def observe(self, records: Sequence[e.Record]) -> None:
        await self.awaits.point()
        self.heard += records


def projector(
    log: FakeLog,
    store: FakeStore,
    *,
    clock: FakeClock | None = None,
    ear: Ear | None = None,
    batch_limit: int = 7,
    live_limit: int = 100,
) -> Projector:
    return Projector(
        log,
        store,
        clock or FakeClock(),
        Settings(),
        observer=ear,
        batch_limit=batch_limit,
        live_limit=live_limit,
    )


def fold(records: Sequence[e.Record]) -> dict[str, WorkflowSummary]:
    """Fold a log without batches, caches or stores."""
    live: dict[str, LiveSummary] = {}
    for record in records:
        summary = live.setdefault(record.workflow_id, LiveSummary(record.workflow_id))
        if summary.lineage.accepts(record):
            summary.apply(record)
    return {key: value.freeze() for key, value in live.items() if value.lineage.epoch}


def accepted(records: Sequence[e.Record]) -> list[e.Record]:
    readers: dict[str, AcceptedRecords] = {}
    return [
        record
        for record in records
        if readers.setdefault(record.workflow_id, AcceptedRecords()).accepts(record)
    ]


def busy_log() -> FakeLog:
    """Mix workflows that end, wait, are fought over, and wake again."""
    log = FakeLog()
    asleep: list[e.AnyEvent] = [
        e.WorkflowActivated(),
        started(),
        e.CorrelationStarted(frame=2, types=["x"]),
        e.WorkflowPassivated(due_at_ms=5),
    ]
    fought = [
        *turn("fought", 1, "a", [e.WorkflowActivated(), started(), task_started(2)]),
        *turn("fought", 2, "b", [e.WorkflowActivated(), task_started(3, "/b")]),
        *turn("fought", 2, "c", [e.WorkflowActivated(), task_started(4, "/c")]),
        *turn("fought", 1, "a", [e.WorkflowCompleted()], first_seq=3),
        *turn("fought", 2, "b", [task_started(5, "/b2")], first_seq=2),
    ]
    woken = [*turn("woken", 1, "a", asleep), *turn("woken", 2, "b", [e.WorkflowActivated()])]
    log.add(
        interleaved(
            simple_run("done-1"),
            simple_run("done-2"),
            turn("asleep", 1, "a", asleep),
            fought,
            woken,
        )
    )
    return log


async def drain(subject: Projector) -> int:
    total = 0
    while count := await subject.step():
        total += count
    return total


@pytest.mark.parametrize("batch_limit", [1, 2, 7, 1000])
@pytest.mark.parametrize("live_limit", [0, 1, 100])
async def test_it_equals_the_fold_whatever_the_batches_and_the_cache(
    batch_limit: int, live_limit: int
) -> None:
    log, store = busy_log(), FakeStore()
    subject = projector(log, store, batch_limit=batch_limit, live_limit=live_limit)
    assert await drain(subject) == len(log.records)
    assert store.rows == fold(log.records)
    assert store.rows["fought"].task == "/b2"
    assert store.saved_offset == log.records[-1].offset


async def test_an_empty_log_is_no_work() -> None:
    store = FakeStore()
    assert await projector(FakeLog(), store).step() == 0
    assert store.saves == 0


async def test_an_ignored_batch_moves_the_offset() -> None:
    log, store = FakeLog(), FakeStore()
    log.add(turn("w", 1, "nobody", [task_started(2), task_started(3)], first_seq=1))
    assert await projector(log, store).step() == 2
    assert store.saved_offset == 2
    assert store.rows == {}


async def test_a_crash_at_any_await_changes_nothing() -> None:
    """Kill it at await 1, 2, 3, ...; its successor comes to the same projection."""
    log = busy_log()
    expected, counting = fold(log.records), accepted(log.records)
    crash_at, crashed = 0, True
    while crashed:
        crash_at += 1
        awaits = Awaits()
        awaits.crash_at = crash_at
        log.awaits = awaits
        store, ear = FakeStore(awaits), Ear(awaits)
        crashed = False
        try:
            await drain(projector(log, store, ear=ear))
        except CrashError:
            crashed = True
            await drain(projector(log, store, ear=ear))
        assert store.rows == expected, f"crash at {crash_at}"
        assert store.saved_offset == log.records[-1].offset
        assert {record.offset for record in ear.heard} == {record.offset for record in counting}
    assert crash_at > 20


async def test_a_failure_at_any_await_is_made_good_by_the_next_step() -> None:
    log = busy_log()
    expected = fold(log.records)
    fail_at, failed = 0, True
    while failed:
        fail_at += 1
        awaits = Awaits()
        awaits.fail_at = {fail_at}
        log.awaits = awaits
        store = FakeStore(awaits)
        subject = projector(log, store, ear=Ear(awaits))
        failed = False
        try:
            await drain(subject)
        except DriverError:
            failed = True
            await drain(subject)  # the same one goes on
        assert store.rows == expected, f"failure at {fail_at}"
    assert fail_at > 20


async def test_lineage_survives_a_restart() -> None:
    log, store = FakeLog(), FakeStore()
    log.add(turn("w", 1, "a", [e.WorkflowActivated(), started()]))
    await drain(projector(log, store))
    log.add(turn("w", 1, "b", [e.WorkflowActivated(), e.WorkflowCompleted()]))
    log.add(turn("w", 1, "a", [e.WorkflowActivated(), started()]))  # an append made twice
    log.add(turn("w", 1, "a", [task_started(2, "/after")], first_seq=2))
    await drain(projector(log, store))
    assert store.rows["w"].status == "running"
    assert store.rows["w"].task == "/after"


async def test_what_has_ended_or_sleeps_is_not_kept_in_memory() -> None:
    log, store = busy_log(), FakeStore()
    subject = projector(log, store)
    await drain(subject)
    store.loads.clear()
    log.add(turn("asleep", 2, "b", [e.WorkflowActivated()]))
    log.add(turn("fought", 2, "b", [task_started(9)], first_seq=3))
    await drain(subject)
    assert store.loads == ["asleep"]
    assert store.rows == fold(log.records)


async def test_a_gap_is_counted_and_not_applied() -> None:
    log, store = FakeLog(), FakeStore()
    log.add(turn("w", 1, "a", [e.WorkflowActivated(), started()]))
    log.add(turn("w", 1, "a", [e.WorkflowCompleted()], first_seq=3))
    subject = projector(log, store)
    await drain(subject)
    assert subject.gaps == 1
    assert store.rows["w"].status == "running"


async def test_the_observer_hears_what_counts_before_the_offset_moves() -> None:
    log, store = busy_log(), FakeStore()
    offsets: list[int] = []

    class Watching(Ear):
        async def observe(self, records: Sequence[e.Record]) -> None:
            await super().observe(records)
            offsets.append(store.saved_offset)
            assert store.saved_offset < records[0].offset

    ear = Watching()
    await drain(projector(log, store, ear=ear))
    assert ear.heard == accepted(log.records)
    assert offsets


async def test_the_barrier_catches_up_without_a_loop() -> None:
    log, store = busy_log(), FakeStore()
    await projector(log, store, batch_limit=3).barrier()
    assert store.rows == fold(log.records)


async def test_the_barrier_does_not_wait_for_what_comes_later() -> None:
    log = busy_log()

    class Growing(FakeStore):
        async def save(
            self, summaries: Sequence[WorkflowSummary], *, offset: int, partition: int = 0
        ) -> None:
            await super().save(summaries, offset=offset)
            log.add(simple_run(f"late-{offset}"))

    store = Growing()
    target = log.records[-1].offset
    await projector(log, store, batch_limit=3).barrier()
    assert target <= store.saved_offset < log.records[-1].offset


async def test_the_barrier_is_bounded() -> None:
    log, clock = busy_log(), FakeClock()
    hung = asyncio.Event()

    class Hanging(FakeStore):
        async def save(
            self, summaries: Sequence[WorkflowSummary], *, offset: int, partition: int = 0
        ) -> None:
            await hung.wait()
            await super().save(summaries, offset=offset)

    store = Hanging()
    subject = projector(log, store, clock=clock)
    waiting = asyncio.create_task(subject.barrier(timeout_s=2.0))
    await clock.advance(1.9)
    assert not waiting.done()
    await clock.advance(0.2)
    with pytest.raises(Unavailable, match="not caught up"):
        await waiting
    hung.set()
    await subject.barrier()
    assert store.rows == fold(log.records)


async def test_barriers_and_the_loop_together() -> None:
    log, store, clock = busy_log(), FakeStore(), FakeClock()
    subject = projector(log, store, clock=clock, batch_limit=2)
    loop = asyncio.create_task(subject.run())
    await asyncio.gather(*(subject.barrier() for _ in range(10)))
    assert store.rows == fold(log.records)
    assert store.saves == -(-len(log.records) // 2)  # nothing was projected twice
    loop.cancel()
    await asyncio.gather(loop, return_exceptions=True)


async def test_steps_at_the_same_time_take_turns() -> None:
    log, store, ear = busy_log(), FakeStore(), Ear()
    subject = projector(log, store, ear=ear, batch_limit=4)
    counts = await asyncio.gather(*(subject.step() for _ in range(20)))
    assert sum(counts) == len(log.records)
    assert ear.heard == accepted(log.records)
    assert store.rows == fold(log.records)


async def test_the_loop_looks_again_after_the_interval() -> None:
    log, store, clock = busy_log(), FakeStore(), FakeClock()
    subject = projector(log, store, clock=clock, batch_limit=1000)
    loop = asyncio.create_task(subject.run())
    await settle()
    assert await subject.lag() == 0
    log.add(simple_run("late"))
    assert await subject.lag() == len(simple_run("late"))
    await clock.advance(0.06)
    assert store.rows["late"].status == "completed"
    loop.cancel()
    await asyncio.gather(loop, return_exceptions=True)


async def test_the_loop_outlives_failing_stores() -> None:
    log, clock = busy_log(), FakeClock()
    store = FakeStore()
    store.awaits.fail_at = {2, 4, 7}
    loop = asyncio.create_task(projector(log, store, clock=clock).run())
    await clock.advance(10)
    assert store.rows == fold(log.records)
    loop.cancel()
    await asyncio.gather(loop, return_exceptions=True)


async def test_nothing_is_projected_behind_the_offset_that_is_asked_for() -> None:
    log, store = busy_log(), FakeStore()
    subject = projector(log, store)
    middle = len(log.records) // 2
    while await subject.step(up_to=middle):
        pass
    assert store.saved_offset == subject.reached == middle
    assert store.rows == fold(log.records[:middle])
    await drain(subject)
    assert store.rows == fold(log.records)


@pytest.mark.parametrize(
    ("took_ms", "most_ms"), [(0, 50), (10, 50), (20, 100), (60, 200), (1_000, 250)]
)
@pytest.mark.parametrize("now_ms", [1_000_000, 1_000_001, 1_000_049])
async def test_the_dearer_a_step_the_longer_the_rest_and_all_step_together(
    took_ms: int, most_ms: int, now_ms: int
) -> None:
    clock = FakeClock(now_ms)
    subject = projector(FakeLog(), FakeStore(), clock=clock)
    rest_ms = round(subject._rest_s(clock.ticks_ms() - took_ms) * 1000)
    assert most_ms - 50 < rest_ms <= most_ms
    assert (clock.ticks_ms() + rest_ms) % 50 == 0
