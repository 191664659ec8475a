"""Children of workflows, from an owner's effect to the owner of the child."""

from __future__ import annotations

import asyncio

from orchx.domain import messages as m
from orchx.domain.events import ChildDetails, ParentRef, Request
from orchx.domain.keys import cancel_child_command_id
from orchx.engine.effects import EffectRunner
from orchx.engine.outbox import Outbox
from orchx.ports.supervision import Ending, OwnerReport
from orchx.testing.virtual_clock import VirtualClock
from tests.unit.engine.dispatching import Desk

CHILD = ChildDetails(workflow_id="kid", namespace="t", name="child", version="latest")
PARENT = Request(parent=ParentRef(workflow_id="wf", frame=2), generation=1)
START = m.StartChild(frame=2, child=CHILD, request=PARENT)
CANCEL = m.CancelChild(workflow_id="kid", parent_id="wf", traceparent="00-aa-bb-01")
CANCEL_ID = cancel_child_command_id("kid")


class Supervisor:
    """Remembers the commands that it was told of."""

    def __init__(self) -> None:
        self.commands: list[m.AnyCommand] = []

    def report(self, report: OwnerReport) -> None:
        self.commands += report.commands


def not_over() -> Ending:
    raise AssertionError("nothing is over")


async def commands_of(*effects: m.Effect) -> list[m.AnyCommand]:
    """Return what the Dispatcher is told of when an owner runs these effects."""
    supervisor, clock = Supervisor(), VirtualClock()
    outbox = Outbox("owner-1", "owner-1#1", supervisor)
    EffectRunner({}, outbox, clock).run(effects, not_over)
    await asyncio.sleep(0)
    return supervisor.commands


async def test_a_child_that_was_given_up_is_cancelled_by_a_command() -> None:
    (command,) = await commands_of(CANCEL)
    assert isinstance(command, m.CancelWorkflow)
    assert (command.id, command.workflow_id, command.by) == (CANCEL_ID, "kid", "wf")
    assert (command.reason, command.traceparent) == (m.CHILD_ABANDONED, "00-aa-bb-01")


async def test_the_cancellation_reaches_the_childs_owner() -> None:
    desk = Desk()
    await desk.publish("child", "digest-of-child")
    await desk.report("owner-1", commands=await commands_of(START))
    assert desk.owners["owner-1"].commands == ["kid"]
    await desk.report("owner-1", applied=["kid"], commands=await commands_of(CANCEL))
    assert desk.owners["owner-1"].commands == ["kid", CANCEL_ID]
    await desk.report("owner-1", commands=await commands_of(CANCEL))
    assert desk.owners["owner-1"].commands == ["kid", CANCEL_ID]


async def test_a_child_that_was_never_started_leaves_no_command_behind() -> None:
    desk = Desk()
    await desk.report("owner-1", commands=await commands_of(CANCEL))
    assert await desk.pending() == []
    assert desk.roster.entries == {}


async def test_a_parent_goes_on_waiting_when_its_childs_definition_is_retired() -> None:
    desk = Desk()
    await desk.publish("child", "digest-of-child")
    await desk.report("owner-1", commands=await commands_of(START))
    await desk.catalog.retire("t", "child", "1.0.0")
    # a new owner has taken the parent up, and starts again what was under way
    await desk.report("owner-1", applied=["kid"], commands=await commands_of(START))
    await desk.pass_s(1.0)
    assert [command.id for command in desk.queue.commands()] == ["kid"]
