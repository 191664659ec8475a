"""What is forgotten, when, and that it is never what somebody may still ask for."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace

import pytest

from orchx.domain.events import (
    EventEmitted,
    Request,
    WorkflowActivated,
    WorkflowCompleted,
    WorkflowStarted,
)
from orchx.domain.keys import event_command_id
from orchx.domain.messages import AnyCommand, CancelWorkflow, StartWorkflow
from orchx.engine import retention as retention_module
from orchx.engine.activation import Activator
from orchx.engine.causes import Causes
from orchx.engine.environment import Directory, SchemaChecker, World
from orchx.engine.plans import Plans
from orchx.engine.retention import (
    DAY_MS,
    INTERVAL_S,
    CommandRetention,
    DeliveryRetention,
    forget_for_ever,
)
from orchx.engine.routing import Resolver
from orchx.errors import DriverError, Unavailable
from orchx.learning.static_policy import StaticPolicy
from orchx.ports.deliveries import Delivery
from orchx.ports.event_log import Claim
from orchx.settings import RetentionSettings
from orchx.testing.in_process_evaluator import InProcessEvaluator
from orchx.testing.memory_catalog import MemoryCatalog
from orchx.testing.memory_command_queue import MemoryCommandQueue
from orchx.testing.memory_deliveries import MemoryDeliveries
from orchx.testing.memory_event_log import MemoryEventLog
from tests.unit.engine.fakes import FakeClock, FakeLog
from tests.unit.engine.histories import started, turn

NOW_MS = 100 * DAY_MS
KEEP = RetentionSettings(commands_days=7, deliveries_days=7, undelivered_days=30)
DELIVERY = Delivery(
    id="",
    workflow_id="w",
    tenant="acme",
    position=1,
    url="https://hr/h",
    event_type="t",
    body=b"{}",
    created_at_ms=0,
)


def command(id_: str, age_days: float) -> CancelWorkflow:
    created_at_ms = NOW_MS - round(age_days * DAY_MS)
    return CancelWorkflow(id=id_, workflow_id=id_, created_at_ms=created_at_ms)


def ended(id_: str, status: str, age_days: float) -> Delivery:
    ended_at_ms = NOW_MS - round(age_days * DAY_MS)
    return replace(DELIVERY, id=id_, status=status, ended_at_ms=ended_at_ms)  # type: ignore[arg-type]


class Queue:
    """A queue, a barrier that the test may break, and what forgets."""

    def __init__(self) -> None:
        self.clock = FakeClock(NOW_MS)
        self.store = MemoryCommandQueue()
        self.met = 0
        self.unmet = 0
        self.retention = CommandRetention(self.store, self.clock, KEEP, self._barrier)

    async def _barrier(self) -> None:
        if self.unmet:
            self.unmet -= 1
            raise Unavailable("the projection is not caught up")
        self.met += 1

    @property
    def ids(self) -> list[str]:
        return [each.id for each in self.store.commands()]


async def test_commands_are_forgotten_once_they_are_old_and_applied() -> None:
    queue = Queue()
    await queue.store.put([command("waits", 99), command("old", 7.1), command("new", 6.9)])
    await queue.store.acknowledge(["old", "new"])
    assert await queue.retention.forget() == 1
    assert queue.ids == ["waits", "new"]
    assert await queue.store.pruned_before_ms() == NOW_MS - 7 * DAY_MS


async def test_nothing_is_forgotten_before_the_projector_has_heard_of_it() -> None:
    """What it queues for records of long ago must find the ids that it was queued under."""
    queue = Queue()
    await queue.store.put([command("old", 8)])
    await queue.store.acknowledge(["old"])
    queue.unmet = 1
    with pytest.raises(Unavailable):
        await queue.retention.forget()
    assert (queue.ids, await queue.store.pruned_before_ms()) == (["old"], 0)


async def test_forgetting_goes_on_whatever_a_store_says() -> None:
    queue = Queue()
    await queue.store.put([command("old", 8)])
    await queue.store.acknowledge(["old"])
    queue.unmet = 1
    loop = asyncio.create_task(forget_for_ever(queue.retention, queue.clock))
    await queue.clock.advance(2 * INTERVAL_S - 1)
    assert (queue.unmet, queue.ids) == (0, ["old"])
    await queue.clock.advance(1)
    assert queue.ids == []
    await queue.clock.advance(3_600)
    assert queue.met == 1 + 3_600 / INTERVAL_S
    loop.cancel()
    await asyncio.gather(loop, return_exceptions=True)


class Offers(list[str]):
    """A sink that remembers the ids of what it was offered."""

    def offer(self, commands: Sequence[AnyCommand]) -> None:
        self.extend(command.id for command in commands)


async def test_a_projection_made_anew_does_again_what_may_not_be_known_and_nothing_older() -> None:
    """An event of last year, heard of again, must not reach those who listen today."""
    log, queue, offers = FakeLog(), Queue(), Offers()
    days = {"old": 9, "new": 1}
    for name, age_days in days.items():
        event = EventEmitted(event={"id": name, "source": "/s", "type": "t"})
        at_ms = NOW_MS - age_days * DAY_MS
        log.add(turn(name, 1, "owner", [WorkflowActivated(), started(), event], at_ms=at_ms))

    def observer() -> Causes:
        resolver = Resolver(MemoryCatalog(), queue.store, log)
        clock = queue.clock
        return Causes(log=log, queue=queue.store, resolver=resolver, sink=offers, clock=clock)

    await observer().observe(log.records)
    assert offers == [event_command_id("", "/s", name) for name in days]
    await queue.store.acknowledge(offers)
    assert await queue.retention.forget() == 1
    await observer().observe(log.records)
    assert len(offers) == len(days)


async def test_a_request_whose_key_is_forgotten_is_still_one_workflow() -> None:
    """As docs/http-api.md says: the log knows the id, which is derived from the key."""
    log = MemoryEventLog()
    whole = (started(), WorkflowCompleted(output=1))
    await log.claim(Claim(workflow_id="wf", owner="owner#1", at_ms=1, opening=whole))
    again = StartWorkflow(
        id="wf",
        workflow_id="wf",
        created_at_ms=NOW_MS,
        namespace="hr",
        name="onboard",
        version="1.0.0",
        digest="d",
        input={"another": "input"},
        request=Request(),
    )
    activated = await activator(log).start(again)
    assert (activated.live, activated.state.status) == (None, "completed")
    events = [type(record.event) for record in await log.read("wf")]
    assert events.count(WorkflowStarted) == 1


def activator(log: MemoryEventLog) -> Activator:
    world = World(
        owner="owner#2",
        evaluator=InProcessEvaluator(),
        policy=StaticPolicy(),
        directory=Directory({}, ()),
        schemas=SchemaChecker(),
        now=lambda: NOW_MS,
    )
    plans = Plans(log, MemoryCatalog())
    return Activator("owner#2", log, plans, world, lambda function: asyncio.to_thread(function))


async def test_webhooks_are_forgotten_after_their_end_and_in_small_batches(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    points: list[str] = []

    async def on_io(point: str) -> None:
        points.append(point)

    monkeypatch.setattr(retention_module, "DELIVERIES_LIMIT", 2)
    outbox = MemoryDeliveries(on_io)
    delivered = [ended(f"old-{number}", "delivered", 8) for number in range(5)]
    kept = [
        ended("new", "delivered", 6),
        ended("to-replay", "undelivered", 29),
        replace(DELIVERY, id="pending"),
    ]
    await outbox.add([*delivered, ended("given-up", "undelivered", 31), *kept], offset=1)
    retention = DeliveryRetention(outbox, FakeClock(NOW_MS), KEEP)
    assert await retention.forget() == 6
    assert {each.id for each in await outbox.list()} == {"new", "to-replay", "pending"}
    assert points.count("deliveries.prune:before") == 3 + 1
    assert await retention.forget() == 0


async def test_one_step_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention_module, "DELIVERIES_LIMIT", 2)
    monkeypatch.setattr(retention_module, "BATCHES_LIMIT", 3)
    outbox = MemoryDeliveries()
    await outbox.add([ended(str(number), "delivered", 8) for number in range(9)], offset=1)
    retention = DeliveryRetention(outbox, FakeClock(NOW_MS), KEEP)
    assert [await retention.forget() for _ in range(3)] == [6, 3, 0]


async def test_a_failed_batch_leaves_the_rest_for_the_next_step() -> None:
    async def on_io(point: str) -> None:
        if point == "deliveries.prune:before":
            raise DriverError("the disk is away")

    outbox = MemoryDeliveries(on_io)
    await outbox.add([ended("old", "delivered", 8)], offset=1)
    with pytest.raises(DriverError):
        await DeliveryRetention(outbox, FakeClock(NOW_MS), KEEP).forget()
    assert len(await outbox.list()) == 1
