"""What the links send: one message as a rule, several where one would be too large."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
import pytest
from structlog.testing import capture_logs

from orchx.actors import message_parts
from orchx.actors.links import (
    RayCommandSink,
    RayDispatcherLink,
    RayOutcomeSink,
    RayOwnerLink,
    RayPoolLink,
    RaySupervisorLink,
)
from orchx.domain.messages import AnyCommand, TaskOutcome, TaskRequest
from orchx.errors import NoAnswer, Unavailable
from orchx.ports.supervision import Assignment, Load, OwnerReport, Passivation, Subscription
from tests.unit.engine.dispatching import cancel, ending, event, start
from tests.unit.engine.pool_fakes import request

PART_BYTES = 1_000
LOADS = [Load(waiting=n, by_tenant={}, running=0) for n in range(100)]


@dataclass
class FakeHandles:
    """Remembers what is sent; answers each question with another load."""

    sent: list[tuple[str, str, tuple[Any, ...]]] = field(default_factory=list)

    def push(self, actor: str, method: str, *arguments: bytes | str) -> None:
        self.sent.append((actor, method, arguments))

    async def ask(self, actor: str, method: str, *arguments: Any, timeout_s: float) -> bytes:
        self.sent.append((actor, method, arguments))
        return msgspec.msgpack.encode(LOADS[len(self.sent)])

    def batches(self, actor: str, method: str, kind: Any) -> list[list[Any]]:
        """Return what one method was given: in several messages, each of which is small."""
        found = []
        for to, name, (payload, *_) in self.sent:
            assert (to, name) == (actor, method)
            assert len(payload) <= PART_BYTES
            found.append(msgspec.msgpack.decode(payload, type=list[kind]))
        assert len(found) > 1
        return found


@pytest.fixture
def handles(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(message_parts, "PART_BYTES", PART_BYTES, raising=False)
    return FakeHandles()


def flat(batches: Sequence[Sequence[Any]]) -> list[Any]:
    return [item for batch in batches for item in batch]


COMMANDS: list[AnyCommand] = [start("a"), *(event(f"e{n}", "a") for n in range(20))]


def test_assignments_are_cut_into_messages_and_stay_in_order(handles: Any) -> None:
    assignments = [Assignment(workflow_id="a", command=command) for command in COMMANDS]
    RayOwnerLink(handles, "owner-1", 1.0).deliver(assignments)
    assert flat(handles.batches("owner-1", "deliver", Assignment)) == assignments


def test_calls_are_cut_into_messages_for_each_pool(handles: Any) -> None:
    requests = [request(f"w{n}") for n in range(20)]
    RayPoolLink(handles, ["pool-0"]).submit(requests)
    assert flat(handles.batches("pool-0", "submit", TaskRequest)) == requests
    handles.sent.clear()
    RayPoolLink(handles, ["pool-0", "pool-1"]).submit(requests)
    assert len(handles.sent) > 2
    assert max(len(payload) for _, _, (payload,) in handles.sent) <= PART_BYTES


def test_executions_to_abandon_are_cut_into_messages(handles: Any) -> None:
    executions = [f"execution-{n:03}" for n in range(100)]
    RayPoolLink(handles, ["pool-0"]).abandon(executions)
    assert flat(handles.batches("pool-0", "abandon", str)) == executions


def test_outcomes_are_cut_into_messages(handles: Any) -> None:
    outcomes = [TaskOutcome(workflow_id="a", frame=n, output="x" * 90) for n in range(20)]
    RayOutcomeSink(handles).push("owner-1", outcomes)
    assert flat(handles.batches("owner-1", "outcomes", TaskOutcome)) == outcomes


def test_commands_that_the_projector_found_are_cut_into_messages(handles: Any) -> None:
    RayCommandSink(handles).offer(COMMANDS)
    assert flat(handles.batches("dispatcher", "offered", AnyCommand)) == COMMANDS


async def test_an_offer_is_cut_into_messages_and_who_watches_comes_with_the_last(
    handles: Any,
) -> None:
    load = await RayDispatcherLink(handles).offer(COMMANDS, watcher="w", watched=["a"])
    assert flat(handles.batches("dispatcher", "offer", AnyCommand)) == COMMANDS
    assert load == LOADS[len(handles.sent)]
    watched = [msgspec.msgpack.decode(ids) for _, _, (_, _, ids) in handles.sent]
    assert watched == [[]] * (len(watched) - 1) + [["a"]]
    assert handles.sent[-1][2][1] == "w"


class SlowHandles(FakeHandles):
    """Answers, or fails, when the test says so."""

    def __init__(self) -> None:
        super().__init__()
        self.answers: list[asyncio.Future[None]] = []

    async def ask(self, actor: str, method: str, *arguments: Any, timeout_s: float) -> bytes:
        answer = asyncio.get_running_loop().create_future()
        self.answers.append(answer)
        load = await super().ask(actor, method, *arguments, timeout_s=timeout_s)
        await answer
        return load

    @property
    def offered(self) -> list[str]:
        payloads = (arguments[0] for _, _, arguments in self.sent)
        decoded = (msgspec.msgpack.decode(p, type=list[AnyCommand]) for p in payloads)
        return [command.id for commands in decoded for command in commands]


BIG = [event(f"big-{n}", "w" * PART_BYTES) for n in range(2)]


async def offer(link: RayDispatcherLink, *commands: AnyCommand) -> asyncio.Task[Load]:
    task = asyncio.create_task(link.offer(commands, watcher="", watched=[]))
    await asyncio.sleep(0)
    return task


async def turns() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_no_offer_overtakes_one_that_waits_for_an_earlier_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(message_parts, "PART_BYTES", PART_BYTES)
    slow = SlowHandles()
    link = RayDispatcherLink(slow)  # type: ignore[arg-type]
    tasks = [await offer(link, *BIG), await offer(link, event("waits"))]
    slow.answers[0].set_result(None)
    await turns()
    slow.answers[1].set_result(None)  # and in the same turn of the loop
    tasks.append(asyncio.create_task(link.offer([event("last")], watcher="", watched=[])))
    await turns()
    slow.answers[2].set_result(None)
    await turns()
    slow.answers[3].set_result(None)
    await asyncio.gather(*tasks)
    assert slow.offered == ["big-0", "big-1", "waits", "last"]


async def test_what_waited_for_an_offer_that_did_not_arrive_does_not_go_before_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(message_parts, "PART_BYTES", PART_BYTES)
    slow = SlowHandles()
    link = RayDispatcherLink(slow)  # type: ignore[arg-type]
    tasks = [await offer(link, *BIG), await offer(link, event("waits"))]
    slow.answers[0].set_exception(NoAnswer("frozen"))
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(result) for result in results] == [NoAnswer, Unavailable]
    assert slow.offered == ["big-0"]
    again = await offer(link, event("again"))
    slow.answers[1].set_result(None)
    await again
    assert slow.offered == ["big-0", "again"]


async def test_an_empty_offer_is_one_message(handles: Any) -> None:
    await RayDispatcherLink(handles).offer([], watcher="w", watched=[])
    assert len(handles.sent) == 1


# -- reports -------------------------------------------------------------------------------

LARGE = OwnerReport(
    owner="owner-1",
    incarnation="owner-1#1",
    hello=True,
    applied=[f"c{n}" for n in range(300)],
    ended=[ending(f"e{n}") for n in range(30)],
    passivated=[Passivation(workflow_id=f"p{n}", due_at_ms=n) for n in range(30)],
    listening=[Subscription(workflow_id="l", types=["t"])],
    lost=["x"],
    commands=[start("child"), cancel("c", "child")],
    published=[{"id": "e"}],
)
LISTS = [f for f in LARGE.__struct_fields__ if isinstance(getattr(LARGE, f), list)]


def test_a_report_is_cut_into_messages_that_say_the_same(handles: Any) -> None:
    RaySupervisorLink(handles).report(LARGE)
    told = [msgspec.msgpack.decode(payload, type=OwnerReport) for _, _, (payload,) in handles.sent]
    assert len(told) > len(LISTS)
    assert max(len(payload) for _, _, (payload,) in handles.sent) <= PART_BYTES + 100
    assert {(report.owner, report.incarnation) for report in told} == {("owner-1", "owner-1#1")}
    assert [report.hello for report in told] == [True] + [False] * (len(told) - 1)
    for name in LISTS:
        assert flat([getattr(report, name) for report in told]) == getattr(LARGE, name)


def test_a_report_is_told_in_the_order_in_which_it_is_taken(handles: Any) -> None:
    RaySupervisorLink(handles).report(LARGE)
    told: list[str] = []
    for _, _, (payload,) in handles.sent:
        report = msgspec.msgpack.decode(payload, type=OwnerReport)
        told += [name for name in LISTS if getattr(report, name)]
    assert list(dict.fromkeys(told)) == [
        *("applied", "listening", "passivated", "lost", "ended", "commands", "published")
    ]


def test_a_small_report_is_one_message(handles: Any) -> None:
    report = OwnerReport(owner="o", incarnation="o#1", applied=["a"], ended=[ending("a")])
    RaySupervisorLink(handles).report(report)
    ((_, _, (payload,)),) = handles.sent
    assert msgspec.msgpack.decode(payload, type=OwnerReport) == report


# -- what is larger than a part ------------------------------------------------------------


def test_one_that_is_larger_than_a_part_goes_alone(handles: Any) -> None:
    assert list(message_parts.parts(["a", "x" * 5_000, "b", "c"])) == [
        ["a"],
        ["x" * 5_000],
        ["b", "c"],
    ]


def test_one_that_no_channel_takes_is_dropped_and_stops_no_other(
    handles: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(message_parts, "ITEM_BYTES_MAX", 2_000)
    assignments = [Assignment(workflow_id=f"w{n}", command=start(f"w{n}")) for n in range(3)]
    huge = Assignment(workflow_id="huge", command=event("e" * 5_000, "huge"))
    with capture_logs() as logs:
        RayOwnerLink(handles, "owner-1", 1.0).deliver([assignments[0], huge, *assignments[1:]])
        RayOwnerLink(handles, "owner-1", 1.0).deliver([huge])
    sent = [msgspec.msgpack.decode(p, type=list[Assignment]) for _, _, (p,) in handles.sent]
    assert flat(sent) == assignments
    assert [(log["log_level"], log["workflow_id"]) for log in logs] == [("error", "huge")] * 2
