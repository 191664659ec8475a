"""The Dispatcher: what it makes of commands, of endings, and of its own failures."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from structlog.testing import capture_logs

from orchx.domain import messages as m
from orchx.domain.events import ParentRef
from orchx.domain.keys import child_finished_command_id, event_command_id
from orchx.engine import routing
from orchx.engine.dispatcher import ACKNOWLEDGE_PAUSE_S
from orchx.errors import DriverError
from orchx.ports.command_queue import Accepted
from orchx.ports.supervision import Load, Subscription
from tests.unit.engine.dispatching import Desk, cancel, ending, event, start

ACKNOWLEDGE = "command_queue.acknowledge:before"
PUT = "command_queue.put:before"


# -- commands ------------------------------------------------------------------------------


async def test_the_load_tells_who_waits_and_who_runs() -> None:
    desk = Desk(capacity=1)
    await desk.submit(start("a"), start("b"), start("c", tenant="evil"))
    load = desk.dispatcher.offer([])
    assert load == Load(waiting=2, by_tenant={"acme": 1, "evil": 1}, running=1)


async def test_a_workflow_is_placed_by_what_its_request_asks_for() -> None:
    desk = Desk(dedicated=1)
    await desk.submit(start("wf", isolation="dedicated", priority=3, deadline_ms=7, tenant="acme"))
    entry = desk.roster.entries["wf"]
    assert (entry.owner, entry.priority, entry.deadline_ms, entry.tenant) == (
        "lone-1",
        3,
        7,
        "acme",
    )
    assert entry.fresh


async def test_an_event_for_all_reaches_everyone_who_listens_and_nobody_else() -> None:
    desk = Desk()
    await desk.submit(start("moved"), start("any"), start("left"))
    for workflow_id, types in (("moved", ["hr.moved"]), ("any", []), ("left", ["hr.left"])):
        listening = Subscription(workflow_id=workflow_id, types=types)
        await desk.report("owner-1", listening=[listening])
    await desk.submit(event("e"))
    assert desk.owners["owner-1"].got[3:] == ["any", "moved"]


async def test_an_event_for_all_is_acknowledged_once_each_listener_has_it_durably() -> None:
    desk = Desk()
    await desk.submit(start("wf"))
    await desk.report("owner-1", listening=[Subscription(workflow_id="wf", types=[])])
    await desk.queue.put([event("e")])
    desk.failing[PUT] = DriverError("disk")
    desk.dispatcher.offer([event("e")])
    await desk.pass_s(1.0)
    assert await desk.pending() == ["wf", "e"]
    desk.failing.clear()
    desk.dispatcher.offer([event("e")])
    await desk.pass_s(1.0)
    assert await desk.pending() == ["wf", event_command_id("wf", "/test", "e")]


async def test_an_event_that_nobody_listens_for_is_done() -> None:
    desk = Desk()
    await desk.submit(event("e"))
    await desk.pass_s(1.0)
    assert await desk.pending() == []


# -- acknowledgements ----------------------------------------------------------------------


async def test_acknowledgements_are_told_to_the_queue_in_batches() -> None:
    desk = Desk()
    told: list[str] = []

    async def on_io(point: str) -> None:
        told.append(point)

    await desk.submit(start("a"), start("b"), start("c"))
    desk.queue._on_io = on_io
    await desk.report("owner-1", applied=["a"])
    await desk.report("owner-1", applied=["b", "c"])
    assert told == []
    await desk.pass_s(ACKNOWLEDGE_PAUSE_S)
    assert told.count(ACKNOWLEDGE) == 1
    assert await desk.pending() == []


async def test_acknowledgements_that_the_queue_refuses_are_told_later() -> None:
    desk = Desk()
    await desk.submit(start("a"), start("b"))
    desk.failing[ACKNOWLEDGE] = DriverError("disk")
    await desk.report("owner-1", applied=["a"])
    await desk.pass_s(1.0)
    assert await desk.pending() == ["a", "b"]
    desk.failing.clear()
    await desk.report("owner-1", applied=["b"])
    await desk.pass_s(1.0)
    assert await desk.pending() == []


async def test_commands_that_came_too_late_are_acknowledged_with_the_end() -> None:
    desk = Desk()
    await desk.submit(start("wf"), cancel("c", "wf"))
    await desk.report("owner-1", applied=["wf"], ended=[ending("wf")])
    await desk.pass_s(1.0)
    assert await desk.pending() == []


# -- endings -------------------------------------------------------------------------------


async def test_an_end_takes_a_workflow_off_the_books_and_reaches_who_watches() -> None:
    desk = Desk()
    desk.dispatcher.offer([start("wf")], watcher="w", watched=["wf"])
    await desk.pass_s()
    await desk.report("owner-1", listening=[Subscription(workflow_id="wf", types=[])])
    await desk.report("owner-1", ended=[ending("wf")])
    assert desk.roster.entries == {}
    assert desk.dispatcher.subscriptions.listeners("hr.moved") == []
    assert await desk.dispatcher.watchers.endings("w", 0) == [ending("wf")]


async def test_an_owner_is_told_that_its_workflow_is_watched_from_now_on() -> None:
    desk = Desk()
    await desk.submit(start("wf"))
    await desk.report("owner-1", applied=["wf"])
    for _ in range(2):
        assert desk.dispatcher.watch("w", ["wf"]) == []
        await desk.pass_s()
    assigned = [a for delivery in desk.owners["owner-1"].deliveries for a in delivery]
    assert [a.watched for a in assigned] == [False, True]


async def test_who_watches_a_workflow_that_is_not_known_learns_so() -> None:
    desk = Desk()
    await desk.submit(start("wf"))
    assert desk.dispatcher.watch("w", ["wf", "over"]) == ["over"]


async def test_a_workflow_watched_before_it_is_offered_is_placed_as_watched() -> None:
    desk = Desk()
    desk.dispatcher.watch("w", ["wf"])
    await desk.submit(start("wf"))
    ((assigned,),) = desk.owners["owner-1"].deliveries
    assert assigned.watched


# -- what workflows cause ------------------------------------------------------------------


async def test_a_child_is_queued_with_its_definition_and_placed() -> None:
    desk = Desk()
    await desk.publish("child", "digest-of-child")
    await desk.report("owner-1", commands=[start("kid", name="child", digest="")])
    assert await desk.queue.find("kid") == start("kid", name="child", digest="digest-of-child")
    assert desk.owners["owner-1"].commands == ["kid"]


async def test_a_parent_is_told_of_a_child_that_has_no_definition() -> None:
    desk = Desk()
    await desk.submit(start("parent"))
    parent = ParentRef(workflow_id="parent", frame=7)
    await desk.report("owner-1", commands=[start("kid", name="gone", digest="", parent=parent)])
    assert await desk.queue.find("kid") is None
    assert desk.owners["owner-1"].commands == ["parent", child_finished_command_id("kid")]


async def test_an_emitted_event_is_queued_once_and_handed_to_who_listens() -> None:
    desk = Desk()
    await desk.submit(start("wf"))
    await desk.report("owner-1", listening=[Subscription(workflow_id="wf", types=["hr.moved"])])
    for _ in range(2):
        await desk.report("owner-1", published=[event("e").event])
    await desk.pass_s(1.0)
    mine = event_command_id("wf", "/test", "e")
    assert desk.owners["owner-1"].commands == ["wf", mine]
    assert await desk.pending() == ["wf", mine]


@pytest.mark.parametrize("error", [DriverError("disk"), RuntimeError("unforeseen")])
async def test_work_that_fails_in_the_background_says_so_and_stops_nothing_else(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk = Desk()

    async def broken(*_: object) -> None:
        raise error

    monkeypatch.setattr(desk.dispatcher._resolver, "resolve", broken)
    with capture_logs() as logs:
        await desk.report("owner-1", commands=[start("kid", digest="")])
    assert [line["event"] for line in logs] == ["background work failed"]
    await desk.submit(start("wf"))
    assert desk.owners["owner-1"].commands == ["wf"]


async def test_once_closed_nothing_is_placed_sent_or_acknowledged() -> None:
    desk = Desk()
    await desk.submit(start("a"))
    await desk.report("owner-1", applied=["a"])
    desk.dispatcher.close()
    await desk.submit(start("b"))
    await desk.pass_s(1.0)
    assert desk.owners["owner-1"].commands == ["a"]
    assert await desk.pending() == ["a", "b"]


async def test_a_broadcast_reaches_all_listeners_in_parts_and_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(routing, "PART_COMMANDS", 2)
    desk = Desk()
    for workflow_id in ("a", "b", "c"):
        desk.dispatcher.subscriptions.add(workflow_id, [])
    puts: list[int] = []
    put = desk.queue.put

    async def counted(commands: Sequence[m.AnyCommand]) -> Sequence[Accepted]:
        puts.append(len(commands))
        return await put(commands)

    monkeypatch.setattr(desk.queue, "put", counted)
    await desk.queue.put([event("e")])
    desk.dispatcher.offer([event("e")])
    desk.dispatcher.offer([event("e")])
    await desk.pass_s(1.0)
    assert puts == [1, 2, 1]
    assert sorted(desk.owners["owner-1"].got) == ["a", "b", "c"]
