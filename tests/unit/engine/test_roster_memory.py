"""What the Dispatcher keeps in memory of commands, and what it reads again from the queue."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NoReturn

import msgspec
import pytest

from orchx.domain.messages import AnyCommand, DeliverEvent, StartWorkflow
from orchx.engine import command_shelf, roster
from orchx.engine.command_shelf import weight_of
from orchx.engine.supervision import RESEND_AFTER_MS
from orchx.errors import DriverError
from orchx.ports.supervision import Passivation
from tests.unit.engine.dispatching import SWEEP_S, Desk, cancel, event, start

LARGE = 10_000


def large(workflow_id: str) -> StartWorkflow:
    return msgspec.structs.replace(start(workflow_id), input="x" * LARGE)


def inputs_at(desk: Desk, owner: str = "owner-1") -> list[object]:
    given = [a.command for delivery in desk.owners[owner].deliveries for a in delivery]
    return [command.input for command in given if isinstance(command, StartWorkflow)]


async def test_what_waits_over_the_limit_is_read_from_the_queue_when_its_turn_comes() -> None:
    desk = Desk(running_limit=1, memory_bytes=2 * LARGE)
    await desk.submit(*(large(f"wf{n}") for n in range(5)))
    assert desk.roster.kept_bytes < 2 * LARGE
    assert desk.roster.waiting == 4
    for number in range(5):
        workflow_id = f"wf{number}"
        assert desk.owners["owner-1"].got == [f"wf{n}" for n in range(number + 1)]
        desk.roster.applied(workflow_id)
        desk.roster.remove(workflow_id)
        await desk.pass_s()
    assert inputs_at(desk) == ["x" * LARGE] * 5
    assert desk.roster.kept_bytes == 0


async def test_the_commands_of_one_workflow_stay_in_order() -> None:
    """A cancellation that fits must not overtake the start that did not."""
    desk = Desk(running_limit=0, memory_bytes=5_000)
    await desk.submit(large("wf"), cancel("c1", "wf"))
    desk.roster.seek_place(desk.roster.entries["wf"])
    desk.roster.entries["wf"].fresh = False  # it needs no room among the running
    desk.roster.place_soon()
    await desk.submit(cancel("c2", "wf"))
    assert desk.owners["owner-1"].commands == ["wf", "c1", "c2"]


async def test_what_cannot_be_read_now_is_sent_by_a_later_sweep(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    desk = Desk(memory_bytes=0)

    async def broken(command_id: str) -> NoReturn:
        raise DriverError("away")

    with monkeypatch.context() as patch:
        patch.setattr(desk.queue, "find", broken)
        await desk.submit(start("wf"))
    await desk.pass_s(SWEEP_S)
    await desk.supervision.sweep()
    await desk.pass_s()
    assert desk.owners["owner-1"].commands == []
    await desk.pass_s(RESEND_AFTER_MS / 1000)
    await desk.supervision.sweep()
    await desk.pass_s()
    assert desk.owners["owner-1"].commands == ["wf"]


async def test_a_command_that_even_the_queue_forgot_is_taken_for_applied() -> None:
    desk = Desk(running_limit=0, memory_bytes=0)
    command = start("wf")
    desk.dispatcher.offer([command])
    await desk.pass_s()
    entry = desk.roster.entries["wf"]
    entry.fresh = False
    desk.roster.place_soon()
    await desk.pass_s()
    assert not entry.commands
    assert desk.owners["owner-1"].commands == [""]


async def test_what_runs_may_have_been_started_with_so_much_and_no_more() -> None:
    desk = Desk(memory_bytes=int(2.5 * LARGE))
    await desk.submit(*(large(f"wf{n}") for n in range(4)))
    assert desk.owners["owner-1"].got == ["wf0", "wf1"]
    desk.roster.remove("wf0")
    await desk.pass_s()
    assert desk.owners["owner-1"].got == ["wf0", "wf1", "wf2"]


async def test_one_that_is_larger_than_the_limit_runs_alone() -> None:
    desk = Desk(memory_bytes=LARGE // 2)
    await desk.submit(large("wf0"), large("wf1"))
    assert desk.owners["owner-1"].got == ["wf0"]
    desk.roster.remove("wf0")
    await desk.pass_s()
    assert desk.owners["owner-1"].got == ["wf0", "wf1"]


@pytest.mark.parametrize("size", [0, LARGE])
def test_a_command_weighs_about_what_it_holds(size: int) -> None:
    command = msgspec.structs.replace(start("wf"), input="x" * size)
    assert size < weight_of(command) < size + 500


def slowly(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the queue take its time for each command."""
    find = desk.queue.find

    async def slow(command_id: str) -> AnyCommand | None:
        await desk.clock.sleep(0.010)
        return await find(command_id)

    monkeypatch.setattr(desk.queue, "find", slow)


async def test_commands_that_keep_coming_hold_up_none_of_those_before(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    desk = Desk(memory_bytes=0)
    slowly(desk, monkeypatch)
    await desk.submit(start("wf"))
    for number in range(50):
        await desk.submit(cancel(f"c{number:02}", "wf"))
        await desk.pass_s(0.008)
    came = desk.owners["owner-1"].commands
    assert len(came) > 30
    assert came == ["wf", *(f"c{n:02}" for n in range(len(came) - 1))]
    await desk.pass_s(1.0)
    assert len(desk.owners["owner-1"].commands) == 51


async def test_what_lost_its_place_during_a_fetch_gets_another(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    desk = Desk(memory_bytes=0)
    slowly(desk, monkeypatch)
    await desk.submit(start("wf"))
    await desk.pass_s(1.0)
    await desk.submit(cancel("c1", "wf"))  # sent as it came
    desk.roster.resend(desk.roster.entries["wf"])  # which has to be fetched now
    await desk.report("owner-1", applied=["wf", "c1"], passivated=[Passivation(workflow_id="wf")])
    await desk.submit(cancel("c2", "wf"))
    await desk.pass_s(1.0)
    assert desk.owners["owner-1"].commands[-1] == "c2"
    assert desk.owner_of("wf") == "owner-1"


async def test_nothing_overtakes_what_could_not_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    desk = Desk(memory_bytes=0)

    async def broken(command_id: str) -> NoReturn:
        raise DriverError("away")

    with monkeypatch.context() as patch:
        patch.setattr(desk.queue, "find", broken)
        await desk.submit(start("wf"))
    await desk.submit(cancel("c1", "wf"))
    assert desk.owners["owner-1"].commands == []
    await desk.pass_s(RESEND_AFTER_MS / 1000 + SWEEP_S)
    await desk.supervision.sweep()
    await desk.pass_s()
    assert desk.owners["owner-1"].commands == ["wf", "c1"]


async def test_a_start_that_comes_after_another_command_is_booked_as_it_is() -> None:
    desk = Desk(dedicated=1)
    await desk.submit(cancel("c", "wf"))
    held = start("wf", tenant="hr", priority=0, isolation="dedicated")
    await desk.submit(held)
    entry = desk.roster.entries["wf"]
    assert (entry.tenant, entry.priority, entry.isolation) == ("hr", 0, "dedicated")
    assert desk.roster.placed_bytes == entry.bytes == weight_of(held)
    desk.roster.remove("wf")
    assert desk.roster.placed_bytes == 0


async def test_what_is_fetched_is_sent_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command_shelf, "PART_BYTES", 3_000)
    desk = Desk(capacity=1, memory_bytes=0)
    await desk.submit(start("other"))
    events = [
        DeliverEvent(
            id=f"e{n}", workflow_id="wf", created_at_ms=1, event={"type": "t", "data": "x" * 1_000}
        )
        for n in range(9)
    ]
    await desk.submit(start("wf"), *events)
    desk.roster.remove("other")
    await desk.pass_s(1.0)
    deliveries = [d for d in desk.owners["owner-1"].deliveries if d[0].workflow_id == "wf"]
    assert max(len(delivery) for delivery in deliveries) <= 4
    assert desk.owners["owner-1"].commands[1:] == ["wf", *(f"e{n}" for n in range(9))]


async def test_a_start_that_comes_while_another_command_waits_waits_in_its_own_place() -> None:
    desk = Desk(capacity=0, dedicated=1)
    await desk.submit(start("first", isolation="dedicated"), cancel("c", "wf"))
    assert desk.roster.waiting_by_tenant == {"default": 1}
    held = start("wf", tenant="hr", isolation="dedicated")
    await desk.submit(held)
    waiting = desk.roster.waiting
    await desk.submit(held)  # an audit offers it again
    assert desk.roster.waiting == waiting
    desk.roster.remove("first")
    await desk.pass_s()
    assert desk.owner_of("wf") == "lone-1"
    assert desk.owners["lone-1"].commands == ["first", "c", "wf"]
    desk.roster.stations.by_name["owner-1"].capacity = 1
    desk.roster.place_soon()
    await desk.pass_s()
    assert (desk.roster.waiting_by_tenant, desk.roster.waiting) == ({}, 0)


def lose(desk: Desk, owner: str) -> None:
    """Have an owner found silent, which loses everything that it holds."""
    desk.owners[owner].away = True
    station = desk.roster.stations.by_name[owner]
    station.last_contact_ms = 0
    desk.supervision._silent(station)


async def test_a_start_that_comes_again_during_a_fetch_does_not_leave_its_workflow_to_nobody(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    desk = Desk(memory_bytes=0)
    slowly(desk, monkeypatch)
    command = start("wf")
    await desk.submit(command)
    await desk.pass_s(1.0)
    owner = desk.owners["owner-1"]
    await desk.report("owner-1", applied=["wf"], passivated=[Passivation(workflow_id="wf")])
    owner.holds.clear()
    owner.deliveries.clear()
    await desk.submit(event("e1", "wf"))
    assert desk.roster.entries["wf"].fetching
    lose(desk, "owner-1")
    assert desk.roster.entries["wf"].queued
    desk.dispatcher.offer([command])  # its acknowledgement was lost
    await desk.pass_s(1.0)
    owner.away = False
    await desk.supervision.sweep()
    await desk.pass_s(1.0)
    assert owner.commands == ["e1", "wf"]


async def test_an_owner_that_begins_anew_between_two_parts_gets_everything_from_the_first_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(command_shelf, "PART_BYTES", 3_000)
    desk = Desk(capacity=1, memory_bytes=0)
    slowly(desk, monkeypatch)
    await desk.submit(start("other"))
    await desk.pass_s(1.0)
    events = [
        DeliverEvent(
            id=f"e{number}",
            workflow_id="wf",
            created_at_ms=1,
            event={"type": "t", "data": "x" * 1_000},
        )
        for number in range(9)
    ]
    await desk.submit(start("wf"), *events)
    desk.roster.remove("other")
    await desk.pass_s(0.06)
    owner = desk.owners["owner-1"]
    assert owner.commands[1:] == ["wf", "e0", "e1", "e2"]
    owner.restart()
    await desk.report("owner-1", hello=True)
    await desk.pass_s(1.0)
    assert owner.commands == ["wf", *(command.id for command in events)]


async def test_what_is_placed_elsewhere_during_a_fetch_goes_there_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    desk = Desk(shared=2, memory_bytes=0)
    slowly(desk, monkeypatch)
    await desk.submit(start("wf"))
    first = desk.owner_of("wf")
    assert first is not None
    lose(desk, first)
    await desk.pass_s(1.0)
    second = desk.owner_of("wf")
    assert second not in (None, first)
    assert desk.owners[second or ""].commands == ["wf"]


async def test_as_many_workflows_are_fetched_at_once_as_may_be(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(roster, "MAX_FETCHES", 3)
    desk = Desk(capacity=100, memory_bytes=0)
    fetch, at_once, most = desk.roster._shelf.fetch, 0, 0

    async def counted(command_ids: Sequence[str]) -> tuple[list[AnyCommand], list[str]]:
        nonlocal at_once, most
        at_once += 1
        most = max(most, at_once)
        await desk.clock.sleep(0.01)
        at_once -= 1
        return await fetch(command_ids)

    monkeypatch.setattr(desk.roster._shelf, "fetch", counted)
    await desk.submit(*(start(f"wf{number}") for number in range(12)))
    for entry in desk.roster.entries.values():
        entry.fresh = False  # they need no room among the running
    desk.roster.place_soon()
    await desk.pass_s(1.0)
    assert most == 3
    assert sorted(desk.owners["owner-1"].got) == sorted(f"wf{number}" for number in range(12))


async def test_an_audit_places_what_nobody_has() -> None:
    desk = Desk()
    await desk.submit(start("wf"))
    desk.roster.release(desk.roster.entries["wf"])  # as only a bug would
    desk.owners["owner-1"].deliveries.clear()
    await desk.supervision.audit()
    await desk.pass_s()
    assert desk.owner_of("wf") == "owner-1"
    assert desk.owners["owner-1"].commands == ["wf"]


async def test_an_audit_does_not_shorten_the_pause_of_what_was_lost() -> None:
    desk = Desk()
    await desk.submit(start("wf"))
    await desk.report("owner-1", lost=["wf"])
    await desk.supervision.audit()
    await desk.pass_s(0.1)
    assert desk.owner_of("wf") is None
    await desk.pass_s(1.0)
    assert desk.owner_of("wf") == "owner-1"
