"""What the Dispatcher keeps in memory of commands, and what it reads again from the queue."""

from __future__ import annotations

from typing import NoReturn

import msgspec
import pytest

from orchx.domain.messages import StartWorkflow
from orchx.engine.command_shelf import weight_of
from orchx.engine.supervision import RESEND_AFTER_MS
from orchx.errors import DriverError
from tests.unit.engine.dispatching import SWEEP_S, Desk, cancel, start

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
