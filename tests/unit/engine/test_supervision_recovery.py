"""A Dispatcher that starts: what it reads, in which order, and what it waits for."""

from __future__ import annotations

import pytest

from orchx.engine import supervision as supervision_module
from orchx.errors import DriverError, Overloaded, Unavailable
from tests.unit.engine.dispatching import SWEEP_S, Desk, cancel, event, start, summary


async def recovered(desk: Desk) -> Desk:
    await desk.recover()
    await desk.pass_s()
    return desk


async def test_recovery_waits_for_the_projection_and_does_nothing_before() -> None:
    desk = Desk(met=False)
    desk.state.errors = [Unavailable("a long log"), Overloaded("still busy")]
    await desk.queue.put([start("wf")])
    recovery = desk.begin(desk.recover())
    for _ in range(2):
        await desk.pass_s(SWEEP_S - 0.001)
        assert (recovery.done(), desk.owners["owner-1"].asked) == (False, 0)
        await desk.pass_s(0.001)
    assert recovery.done()
    await recovery
    assert desk.owners["owner-1"].commands == ["wf"]


async def test_recovery_fails_where_waiting_would_not_help() -> None:
    desk = Desk(met=False)
    desk.state.errors = [DriverError("disk")]
    with pytest.raises(DriverError):
        await desk.recover()


async def test_what_runs_is_placed_and_sent_to_be_claimed() -> None:
    desk = Desk(met=False)
    await desk.project(summary("a"), summary("b"), summary("over", status="completed"))
    await recovered(desk)
    assert sorted(desk.owners["owner-1"].got) == ["a", "b"]
    assert set(desk.owners["owner-1"].commands) == {""}


async def test_what_the_projection_knows_of_a_workflow_is_kept() -> None:
    desk = Desk(met=False, dedicated=1)
    await desk.project(
        summary("a", isolation="dedicated", tenant="evil", priority=3, deadline_ms=7),
        summary("b", isolation="auto"),
    )
    await recovered(desk)
    a, b = desk.roster.entries["a"], desk.roster.entries["b"]
    assert (a.isolation, a.tenant, a.priority, a.deadline_ms) == ("dedicated", "evil", 3, 7)
    assert (a.owner, b.isolation) == ("lone-1", "auto")


async def test_what_owners_hold_stays_where_it_is() -> None:
    desk = Desk(met=False, shared=2, dedicated=2)
    await desk.project(
        summary("a", isolation="dedicated"), summary("b", isolation="dedicated"), summary("c")
    )
    desk.owners["lone-2"].holds = {"a"}
    desk.owners["lone-1"].holds = {"b"}
    desk.owners["owner-2"].holds = {"c"}
    await recovered(desk)
    assert [desk.owner_of(workflow_id) for workflow_id in "abc"] == ["lone-2", "lone-1", "owner-2"]
    assert all(owner.got == [] for owner in desk.owners.values())


async def test_what_runs_already_does_not_count_as_fresh() -> None:
    desk = Desk(met=False, running_limit=1)
    await desk.project(summary("a"), summary("b"))
    await recovered(desk)
    assert desk.roster.stations.held == 2


async def test_passive_workflows_sleep_on_and_listen() -> None:
    desk = Desk(met=False)
    due_at_ms = desk.clock.now_ms() + 5_000
    await desk.project(
        summary("timer", status="waiting", passivated=True, due_at_ms=due_at_ms),
        summary("listener", status="waiting", passivated=True, listens=("hr.moved",)),
    )
    await recovered(desk)
    assert desk.owners["owner-1"].got == []
    await desk.submit(event("e"))
    assert desk.owners["owner-1"].got == ["listener"]
    await desk.pass_s(5.0)
    assert desk.owners["owner-1"].got == ["listener", "timer"]


async def test_every_page_of_the_store_and_of_the_queue_is_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(supervision_module, "PAGE", 2)
    desk = Desk(met=False)
    await desk.project(*(summary(f"old-{number}") for number in range(5)))
    await desk.queue.put([start(f"new-{number}") for number in range(5)])
    await recovered(desk)
    assert len(desk.owners["owner-1"].got) == 10


async def test_recovery_without_owners_places_once_they_answer() -> None:
    desk = Desk(met=False)
    desk.owners["owner-1"].away = True
    await desk.project(summary("wf"))
    await recovered(desk)
    assert desk.owners["owner-1"].got == []
    desk.owners["owner-1"].away = False
    await desk.supervision.sweep()
    await desk.pass_s()
    assert desk.owners["owner-1"].commands == [""]


# -- what is queued ------------------------------------------------------------------------


async def test_the_start_of_a_workflow_that_runs_is_acknowledged_and_not_offered() -> None:
    desk = Desk(met=False)
    await desk.queue.put([start("wf")])
    await desk.project(summary("wf"))
    await recovered(desk)
    assert desk.owners["owner-1"].commands == [""]
    await desk.pass_s(1.0)
    assert await desk.pending() == []


async def test_the_start_of_what_was_only_claimed_is_offered() -> None:
    """Its owner died between the claim and the first events: nothing has begun."""
    desk = Desk(met=False)
    await desk.queue.put([start("wf")])
    await desk.project(summary("wf", status="pending"))
    await recovered(desk)
    await desk.pass_s(1.0)
    assert "wf" in desk.owners["owner-1"].commands
    assert await desk.pending() == ["wf"]


async def test_commands_for_what_is_over_are_acknowledged_and_not_offered() -> None:
    desk = Desk(met=False)
    await desk.queue.put([start("wf"), cancel("c", "wf"), event("e", "wf")])
    await desk.project(summary("wf", status="cancelled"))
    await recovered(desk)
    assert (desk.owners["owner-1"].got, desk.roster.entries) == ([], {})
    await desk.pass_s(1.0)
    assert await desk.pending() == []


async def test_commands_for_what_runs_are_offered_and_wait_to_be_applied() -> None:
    desk = Desk(met=False)
    await desk.queue.put([cancel("c", "wf"), start("new")])
    await desk.project(summary("wf"))
    await recovered(desk)
    await desk.pass_s(1.0)
    assert await desk.pending() == ["c", "new"]
    assert "c" in desk.owners["owner-1"].commands
    assert "new" in desk.owners["owner-1"].commands


async def test_an_event_for_all_goes_to_those_that_listened_before() -> None:
    desk = Desk(met=False)
    await desk.queue.put([event("e")])
    await desk.project(
        summary("wf", status="waiting", passivated=True, listens=("hr.moved",)),
        summary("over", status="completed", listens=("hr.moved",)),
    )
    await recovered(desk)
    assert desk.owners["owner-1"].got == ["wf"]
