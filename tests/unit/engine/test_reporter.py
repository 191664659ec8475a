"""Deliveries are made once each and sent in order, whatever crashes; times are the clock's."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from orchx.domain import events as e
from orchx.domain.faults import Fault
from orchx.engine.delivery_collector import UNSAVED_LIMIT, webhook_id
from orchx.engine.reporter import Reporter
from orchx.engine.webhook_schedule import RetrySchedule
from orchx.engine.webhook_sending import Answer
from orchx.errors import DriverError
from orchx.ports.deliveries import Delivery
from orchx.settings import Settings, SweepSettings, WebhookSettings
from tests.unit.engine.fakes import (
    Awaits,
    CrashError,
    FakeClock,
    FakeDeliveries,
    FakeLog,
    FakeSender,
    settle,
)
from tests.unit.engine.histories import (
    CALLBACK_URL,
    interleaved,
    simple_run,
    started,
    task_completed,
    task_started,
    turn,
)

OUTCOME = e.Callback(url=CALLBACK_URL)
ALL = e.Callback(url=CALLBACK_URL, events="all")
FAULT = Fault(type="https://example.com/broken", status=500)


class World:
    """A reporter and what it stands on; `restart` gives it a successor."""

    def __init__(self, *, batch_limit: int = 5, concurrency: int = 8, alone: bool = True) -> None:
        self.alone = alone
        self.awaits = Awaits()
        self.log = FakeLog(self.awaits)
        self.deliveries = FakeDeliveries(self.awaits)
        self.clock = FakeClock()
        self.sender = FakeSender(self.clock)
        self.settings = Settings(
            webhooks=WebhookSettings(
                concurrency=concurrency,
                first_delay_ms=1000,
                give_up_after_s=100.0,
                collect_interval_ms=1000,
            ),
            sweep=SweepSettings(interval_ms=500),
        )
        self.batch_limit = batch_limit
        self.restart()

    def restart(self) -> None:
        self.reporter = Reporter(
            self.log,
            self.deliveries,
            self.sender,
            self.clock,
            self.settings,
            alone=self.alone,
            draw=lambda: 0.5,
            batch_limit=self.batch_limit,
        )

    async def collect(self) -> None:
        while await self.reporter.collect():
            pass

    def types(self, workflow_id: str | None = None) -> list[str]:
        return [
            row.event_type.removesuffix(".v1").split(".", 2)[2]
            for row in self.deliveries.of(workflow_id)
        ]

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        loop = asyncio.create_task(self.reporter.run())
        await settle()
        try:
            yield
        finally:
            loop.cancel()
            await asyncio.gather(loop, return_exceptions=True)


@pytest.fixture
def world() -> World:
    return World()


def eventful(workflow_id: str, callback: e.Callback | None) -> list[e.Record]:
    """Return a workflow that does everything that is reported, and some things that are not."""
    first: list[e.AnyEvent] = [
        e.WorkflowActivated(),
        started(callback),
        task_started(2),
        e.TaskFaulted(parent=1, reference="/do/0/a", error=FAULT, frame=2),
        e.TaskRetried(frame=1, attempt=2, due_at_ms=5, error=FAULT),
        task_started(3),
        task_completed(3),
        e.TaskSkipped(parent=1, reference="/do/1/b"),
        e.CorrelationStarted(frame=4, types=["x"]),
        e.WorkflowPassivated(),
    ]
    second: list[e.AnyEvent] = [e.WorkflowActivated(), task_completed(4)]
    third: list[e.AnyEvent] = [e.WorkflowActivated(), e.WorkflowCompleted(output=1)]
    return [
        *turn(workflow_id, 1, "a", first),
        *turn(workflow_id, 2, "b", second),
        *turn(workflow_id, 2, "a", [e.WorkflowActivated(), e.WorkflowCancelled()]),
        *turn(workflow_id, 3, "c", third),  # a take-over: nothing that a caller should hear of
    ]


PROGRESS = [
    "workflow.started",
    "task.started",
    "task.faulted",
    "task.retried",
    "task.started",
    "task.completed",
    "workflow.correlation-started",
    "workflow.activated",  # resumed
    "task.completed",
    "workflow.completed",
]


async def test_only_workflows_with_a_callback_are_reported(world: World) -> None:
    world.log.add(interleaved(simple_run("none"), simple_run("hook", callback=OUTCOME)))
    await world.collect()
    assert [row.workflow_id for row in world.deliveries.of()] == ["hook"]
    (row,) = world.deliveries.of()
    assert row.event_type == "io.serverlessworkflow.workflow.completed.v1"
    assert row.url == CALLBACK_URL
    assert row.id == webhook_id(world.log.records[-1])
    assert row.tenant == "acme"
    body = json.loads(row.body)
    assert (body["specversion"], body["type"]) == ("1.0", row.event_type)
    assert body["data"]["name"] == "onboard-hook.hr"


async def test_all_progress_is_reported_in_order(world: World) -> None:
    world.log.add(eventful("w", ALL))
    await world.collect()
    assert world.types() == PROGRESS


async def test_nothing_is_reported_after_the_end(world: World) -> None:
    world.log.add(simple_run("w", callback=ALL))
    await world.collect()
    before = world.types()
    late: list[e.AnyEvent] = [
        e.WorkflowActivated(),
        e.CommandRefused(command_id="c", reason="late"),
    ]
    world.log.add(turn("w", 2, "b", [*late, task_started(9)]))
    world.restart()
    await world.collect()
    assert world.types() == before


async def test_a_restart_after_every_record_makes_the_same_deliveries() -> None:
    world = World(batch_limit=1)
    world.log.add(interleaved(eventful("all", ALL), eventful("out", OUTCOME), eventful("no", None)))
    for record in world.log.records:
        assert await world.reporter.collect() == 1
        # Without a delivery it stores no offset; then a restart would read the record again.
        await world.deliveries.add([], offset=record.offset)
        world.restart()
    assert world.types("all") == PROGRESS
    at_once = World()
    at_once.log.add(world.log.records)
    await at_once.collect()
    assert [row.body for row in world.deliveries.of()] == [
        row.body for row in at_once.deliveries.of()
    ]
    assert world.types("out") == PROGRESS[-1:]
    assert world.types("no") == []


async def test_a_fenced_owner_that_looks_new_after_a_restart_is_not_believed(world: World) -> None:
    world.log.add(turn("w", 1, "a", [e.WorkflowActivated(), started(OUTCOME)]))
    await world.collect()
    await world.deliveries.add([], offset=2)
    world.restart()
    ended: list[e.AnyEvent] = [e.WorkflowActivated(), started(OUTCOME), e.WorkflowCancelled()]
    world.log.add(turn("w", 1, "b", ended))
    await world.collect()
    assert world.types() == []
    world.log.add(turn("w", 1, "a", [e.WorkflowCompleted()], first_seq=2))
    await world.collect()
    assert world.types() == ["workflow.completed"]


async def test_a_crash_at_any_await_neither_loses_nor_doubles_a_delivery() -> None:
    reference = World()
    reference.log.add(interleaved(eventful("all", ALL), eventful("no", None)))
    await reference.collect()
    expected = [(row.id, row.position) for row in reference.deliveries.of()]
    crash_at, crashed = 0, True
    while crashed:
        crash_at += 1
        world = World()
        world.log.add(interleaved(eventful("all", ALL), eventful("no", None)))
        world.awaits.crash_at = crash_at
        crashed = False
        try:
            await world.collect()
        except CrashError:
            crashed = True
            world.restart()
            await world.collect()
        made = [(row.id, row.position) for row in world.deliveries.of()]
        assert made == expected, f"crash at {crash_at}"
    assert crash_at > 10


async def test_a_failure_at_any_await_is_made_good_by_the_next_call() -> None:
    reference = World()
    reference.log.add(interleaved(eventful("all", ALL), eventful("no", None)))
    await reference.collect()
    expected = [(row.id, row.body) for row in reference.deliveries.of()]
    fail_at, failed = 0, True
    while failed:
        fail_at += 1
        world = World()
        world.log.add(interleaved(eventful("all", ALL), eventful("no", None)))
        world.awaits.fail_at = {fail_at}
        failed = False
        try:
            await world.collect()
        except DriverError:
            failed = True
            await world.collect()  # the same one goes on
        assert [(row.id, row.body) for row in world.deliveries.of()] == expected, fail_at
        assert world.deliveries.saved_offset == reference.deliveries.saved_offset
    assert fail_at > 10


async def test_another_process_s_offset_is_taken_up_after_a_failure(world: World) -> None:
    """A store that failed may have gone back or on: its offset counts, not the memory of it."""
    world.log.add(simple_run("first", callback=OUTCOME))
    await world.collect()
    world.log.add(simple_run("second", callback=OUTCOME))
    world.deliveries.rows.clear()
    world.deliveries.saved_offset = 0  # as after a power cut
    world.awaits.fail_at = {world.awaits.count + 1}
    with pytest.raises(DriverError):
        await world.reporter.collect()
    await world.collect()
    assert [row.workflow_id for row in world.deliveries.of()] == ["first", "second"]


async def test_a_workflow_without_a_callback_costs_no_read_and_no_write(world: World) -> None:
    world.log.add(interleaved(*(simple_run(f"w{number}") for number in range(50))))
    await world.collect()
    assert world.log.reads == 0
    assert world.deliveries.adds == 0


async def test_the_offset_is_kept_now_and_then_without_deliveries() -> None:
    world = World(batch_limit=1000)
    runs = UNSAVED_LIMIT // 13 + 1
    world.log.add([record for number in range(runs) for record in simple_run(f"w{number}")])
    await world.collect()
    assert world.deliveries.saved_offset >= UNSAVED_LIMIT
    assert world.deliveries.adds == 1


async def test_deliveries_of_one_workflow_wait_for_each_other(world: World) -> None:
    world.log.add(interleaved(simple_run("slow", callback=ALL), simple_run("w", callback=ALL)))
    world.sender.answers["slow"] = [Answer(status=503), Answer(status=503), Answer(status=200)]
    async with world.running():
        assert len(world.sender.order("slow")) == 1
        assert len(world.sender.order("w")) == 12  # not held up by its neighbour
        await world.clock.advance(10)
    ids = [row.id for row in world.deliveries.of("slow")]
    assert world.sender.order("slow") == [ids[0], ids[0], *ids]
    assert {row.status for row in world.deliveries.of()} == {"delivered"}


async def test_backoff_doubles_until_it_gives_up_and_the_next_one_goes_on(world: World) -> None:
    world.log.add(simple_run("w", callback=ALL, tasks=0))
    down = Answer(error="connection refused")
    world.sender.answers["w"] = [*[down] * 7, Answer(status=200)]
    async with world.running():
        await world.clock.advance(300)
    times = [at_ms - 1_000_000 for at_ms, _ in world.sender.sent]
    assert times == [0, 1000, 3000, 7000, 15000, 31000, 63000, 63000]
    first, second = world.deliveries.of("w")
    assert (first.status, first.attempts, first.last_error) == (
        "undelivered",
        7,
        "connection refused",
    )
    assert first.ended_at_ms == 1_063_000
    assert second.status == "delivered"


async def test_an_undelivered_one_can_be_replayed(world: World) -> None:
    world.log.add(simple_run("w", callback=OUTCOME))
    world.sender.answers["w"] = [Answer(status=410), Answer(status=200)]
    async with world.running():
        (row,) = await world.deliveries.list(status="undelivered")
        assert row.attempts == 1  # Gone is final
        assert await world.deliveries.replay([row.id], now_ms=world.clock.now_ms()) == 1
        await world.clock.advance(1)
    assert [row.status for row in world.deliveries.of()] == ["delivered"]
    assert len(set(world.sender.order("w"))) == 1


async def test_concurrency_is_bounded_and_hanging_receivers_hold_up_no_others() -> None:
    world = World(concurrency=3)
    for number in range(6):
        world.log.add(simple_run(f"w{number}", callback=OUTCOME))
    gate = asyncio.Event()
    world.sender.gates = {"w0": gate, "w1": gate}
    async with world.running():
        assert world.sender.most_at_once == 3
        assert [row.status for row in world.deliveries.of()].count("delivered") == 4
        gate.set()
        await settle()
    assert {row.status for row in world.deliveries.of()} == {"delivered"}


async def test_an_ailing_host_gets_few_of_the_slots() -> None:
    world = World(concurrency=4)
    hung = asyncio.Event()
    for number in range(20):
        world.log.add(simple_run(f"bad{number}", callback=OUTCOME))
        world.sender.answers[f"bad{number}"] = [Answer(error="no answer in time")]
        if number:
            world.sender.gates[f"bad{number}"] = hung
    world.log.add(simple_run("good", callback=e.Callback(url="https://elsewhere.example.org/hook")))
    world.batch_limit = 1000
    world.restart()
    await world.collect()
    assert await world.reporter.pump.start_due() == 4
    await settle()  # bad0 has failed: its host is ailing; three others hang
    await world.reporter.pump.settle()
    assert await world.reporter.pump.start_due() == 1
    await settle()
    assert "good" in {sent.workflow_id for _, sent in world.sender.sent}
    await world.reporter.pump.stop()


async def test_a_crash_after_an_attempt_repeats_it_under_the_same_id(world: World) -> None:
    world.log.add(simple_run("w", callback=OUTCOME))
    await world.collect()
    pump = world.reporter.pump
    assert await pump.start_due() == 1
    await pump.idle()
    world.awaits.crash_at = world.awaits.count + 1
    with pytest.raises(CrashError):
        await pump.settle()
    world.restart()
    async with world.running():
        pass
    assert len(world.sender.sent) == 2
    assert len(set(world.sender.order("w"))) == 1
    assert [row.status for row in world.deliveries.of()] == ["delivered"]


async def test_a_failing_store_does_not_repeat_what_was_sent(world: World) -> None:
    world.log.add(simple_run("w", callback=ALL))
    await world.collect()
    world.awaits.fail_at = set(range(world.awaits.count + 3, world.awaits.count + 40, 7))
    async with world.running():
        await world.clock.advance(60)
    assert {row.status for row in world.deliveries.of()} == {"delivered"}
    assert len(world.sender.sent) == 12


async def test_what_the_sender_raises_fails_one_attempt_and_stops_nobody(world: World) -> None:
    class Poisoned(FakeSender):
        async def send(self, delivery: Delivery, *, at_ms: int) -> Answer:
            if delivery.workflow_id == "poison" and not self.order("poison"):
                self.sent.append((at_ms, delivery))
                raise OverflowError("Python int too large to convert to C int")
            return await super().send(delivery, at_ms=at_ms)

    world.sender = Poisoned(world.clock)
    world.restart()
    world.log.add(interleaved(*(simple_run(w, callback=OUTCOME) for w in ("poison", "w"))))
    async with world.running():
        (poison,) = world.deliveries.of("poison")
        assert (poison.status, poison.attempts) == ("pending", 1)
        assert poison.last_error == "orchx failed at it: OverflowError"
        assert [row.status for row in world.deliveries.of("w")] == ["delivered"]
        await world.clock.advance(2)
    assert {row.status for row in world.deliveries.of()} == {"delivered"}


async def test_a_bug_of_the_pump_s_own_is_not_hidden(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> Delivery:
        raise ZeroDivisionError

    monkeypatch.setattr(RetrySchedule, "after", broken)
    world.log.add(simple_run("w", callback=OUTCOME))
    with pytest.raises(ExceptionGroup) as caught:
        await world.reporter.run()
    assert caught.group_contains(ZeroDivisionError)


async def test_lag_is_what_is_left_to_read(world: World) -> None:
    world.log.add(simple_run("w"))
    assert await world.reporter.lag() == 13
    await world.collect()
    assert await world.reporter.lag() == 0


async def test_lag_asks_about_all_partitions_at_once(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = asyncio.Barrier(3)

    async def three() -> int:
        return 3

    async def end(_: int = 0) -> int:
        async with asyncio.timeout(5):
            await asked.wait()
        return 0

    monkeypatch.setattr(world.log, "partitions", three)
    monkeypatch.setattr(world.log, "last_offset", end)
    assert await world.reporter.lag() == 0


async def test_of_several_engines_one_reports_and_stops_before_the_group_gives_its_place_away() -> (
    None
):
    world = World(alone=False)
    half_session_s = world.settings.kafka.session_timeout_ms / 2_000
    async with world.running():
        await world.log.append(eventful("wf-1", OUTCOME))
        world.reporter.serve([1, 2])
        await world.clock.advance(5.0)
        assert world.deliveries.of("wf-1") == []
        world.reporter.serve([0, 1])
        await world.clock.advance(half_session_s - 1)
        assert len(world.sender.sent) == 1
        await world.clock.advance(2.0)  # it was not told again: the Dispatcher may be frozen
        await world.log.append(eventful("wf-2", OUTCOME))
        await world.clock.advance(5.0)
        assert world.deliveries.of("wf-2") == []
