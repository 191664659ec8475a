"""What follows from records of the log, whether or not their owner lived to do it."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from orchx.domain import events as e
from orchx.domain import messages as m
from orchx.domain.faults import RUNTIME, Fault
from orchx.domain.keys import (
    cancel_child_command_id,
    child_finished_command_id,
    child_workflow_id,
    event_command_id,
)
from orchx.engine import causes as causes_module
from orchx.engine.causes import Causes
from orchx.engine.effects import cancel_command
from orchx.engine.routing import Resolver
from orchx.errors import DriverError
from orchx.testing.memory_catalog import MemoryCatalog
from orchx.testing.memory_command_queue import MemoryCommandQueue
from orchx.testing.virtual_clock import VirtualClock
from tests.unit.engine.dispatching import definition
from tests.unit.engine.fakes import FakeLog
from tests.unit.engine.histories import CALLBACK_URL, simple_run, started, turn

PARENT = e.ParentRef(workflow_id="wf_parent", frame=7)
CHILD_ID = child_workflow_id("wf", 2)
EVENT = {"id": "e", "source": "/test", "type": "hr.moved"}
FAULT = Fault(type=RUNTIME, status=500, title="broken")


class Sink:
    """Remembers what it was offered."""

    def __init__(self) -> None:
        self.offers: list[list[m.AnyCommand]] = []

    def offer(self, commands: Sequence[m.AnyCommand]) -> None:
        self.offers.append(list(commands))

    @property
    def ids(self) -> list[str]:
        return [command.id for offer in self.offers for command in offer]


class Net:
    """`Causes` over what is in memory."""

    def __init__(self) -> None:
        self.log = FakeLog()
        self.error: Exception | None = None
        self.queue = MemoryCommandQueue(self._on_io)
        self.catalog = MemoryCatalog()
        self.sink = Sink()
        self.causes = self.restarted()

    def restarted(self) -> Causes:
        """Return one that remembers nothing, over the same stores."""
        return Causes(
            log=self.log,
            queue=self.queue,
            resolver=Resolver(self.catalog, self.queue, self.log),
            sink=self.sink,
            clock=VirtualClock(),
        )

    async def happen(self, *events: e.AnyEvent, workflow_id: str = "wf", first: int = 0) -> None:
        """Append events of one owner to the log and have them observed."""
        records = self.log.add(turn(workflow_id, 1, "owner-a", events, first_seq=first))
        await self.causes.observe(records)

    async def _on_io(self, _: str) -> None:
        if self.error is not None:
            raise self.error


def begun(parent: e.ParentRef | None = None) -> list[e.AnyEvent]:
    return [e.WorkflowActivated(), started(parent=parent)]


def child_started(
    *, awaited: bool = True, name: str = "child", version: str = "1.0.0"
) -> e.TaskStarted:
    child = e.ChildDetails(
        workflow_id=CHILD_ID,
        namespace="t",
        name=name,
        version=version,
        input={"n": 1},
        awaited=awaited,
    )
    return e.TaskStarted(frame=2, parent=1, reference="/do/0/run", kind="run", child=child)


@pytest.fixture
def net() -> Net:
    return Net()


async def test_a_workflow_that_causes_nothing_reaches_nobody(net: Net) -> None:
    await net.causes.observe(net.log.add(simple_run("wf", callback=e.Callback(url=CALLBACK_URL))))
    assert net.queue.commands() == []
    assert net.sink.offers == []


async def test_an_emitted_event_is_queued_for_all_and_offered(net: Net) -> None:
    await net.happen(*begun(), e.EventEmitted(event=EVENT))
    assert net.sink.ids == [event_command_id("", "/test", "e")]
    (command,) = net.queue.commands()
    assert isinstance(command, m.DeliverEvent)
    assert (command.workflow_id, command.event) == ("", EVENT)


async def test_a_child_is_started_with_what_its_parent_was_asked_for(net: Net) -> None:
    await net.catalog.publish(definition("child", "digest-of-child"))
    await net.happen(*begun(), child_started())
    (command,) = net.queue.commands()
    assert isinstance(command, m.StartWorkflow)
    assert (command.id, command.digest, command.input) == (CHILD_ID, "digest-of-child", {"n": 1})
    assert command.request == e.Request(
        tenant="acme",
        priority=3,
        deadline_ms=99,
        parent=e.ParentRef(workflow_id="wf", frame=2),
        correlation_id="wf",
        generation=1,
    )
    assert command.traceparent == "00-aa-bb-01"
    assert net.sink.ids == [CHILD_ID]


async def test_a_child_that_is_not_awaited_has_nobody_to_tell(net: Net) -> None:
    await net.catalog.publish(definition("child", "digest-of-child"))
    await net.happen(*begun(), child_started(awaited=False))
    (command,) = net.queue.commands()
    assert isinstance(command, m.StartWorkflow)
    assert command.request.parent is None


async def test_a_child_without_a_definition_is_its_parents_news(net: Net) -> None:
    await net.happen(*begun(), child_started(name="gone"))
    (command,) = net.queue.commands()
    assert isinstance(command, m.FinishChild)
    assert (command.workflow_id, command.frame) == ("wf", 2)


async def test_a_child_that_nobody_waits_for_without_a_definition_is_dropped(net: Net) -> None:
    await net.happen(*begun(), child_started(awaited=False, name="gone"))
    assert net.queue.commands() == []


ABANDONED: dict[str, e.AnyEvent] = {
    "cancelled": e.TaskCancelled(frame=2, abandoned_child=CHILD_ID),
    "timed out": e.TaskFaulted(
        parent=1, reference="/do/0/run", error=FAULT, frame=2, abandoned_child=CHILD_ID
    ),
}


@pytest.mark.parametrize("why", ABANDONED)
@pytest.mark.parametrize("together", [True, False])
async def test_a_child_that_was_given_up_is_cancelled_after_its_start(
    net: Net, why: str, together: bool
) -> None:
    await net.catalog.publish(definition("child", "digest-of-child"))
    if together:
        await net.happen(*begun(), child_started(), ABANDONED[why])
    else:
        await net.happen(*begun(), child_started())
        await net.happen(ABANDONED[why], first=3)
    assert net.sink.ids == [CHILD_ID, cancel_child_command_id(CHILD_ID)]
    cancel = net.queue.commands()[-1]
    assert isinstance(cancel, m.CancelWorkflow)
    assert (cancel.workflow_id, cancel.by, cancel.reason) == (CHILD_ID, "wf", m.CHILD_ABANDONED)


async def test_the_owner_and_the_log_tell_of_the_same_cancellation(net: Net) -> None:
    await net.catalog.publish(definition("child", "digest-of-child"))
    await net.happen(*begun(), child_started())
    effect = m.CancelChild(workflow_id=CHILD_ID, parent_id="wf")
    await net.queue.put([cancel_command(effect, 7)])
    await net.happen(ABANDONED["cancelled"], first=3)
    assert net.sink.ids == [CHILD_ID]  # it is in the queue, from where it has been offered


async def test_a_child_that_could_not_be_started_is_not_cancelled(net: Net) -> None:
    await net.happen(*begun(), child_started(name="gone"), ABANDONED["cancelled"])
    assert net.sink.ids == [child_finished_command_id(CHILD_ID)]


async def test_a_task_that_ends_without_a_child_causes_nothing(net: Net) -> None:
    await net.happen(*begun(), e.TaskCancelled(frame=2))
    assert net.queue.commands() == []


async def test_a_parent_is_not_told_that_its_running_child_has_no_definition(net: Net) -> None:
    """What is observed again after the definition was retired says nothing new."""
    await net.catalog.publish(definition("child", "digest-of-child"))
    await net.happen(*begun(), child_started(version="latest"))
    await net.catalog.retire("t", "child", "1.0.0")
    net.causes = net.restarted()
    await net.causes.observe(net.log.records)
    assert [command.id for command in net.queue.commands()] == [CHILD_ID]


@pytest.mark.parametrize(
    ("end", "output", "error"),
    [
        (e.WorkflowCompleted(output={"ok": True}), {"ok": True}, None),
        (e.WorkflowFaulted(error=FAULT), None, FAULT),
        (e.WorkflowCancelled(), None, m.CHILD_CANCELLED),
    ],
)
async def test_a_parent_is_told_how_its_child_ended(
    net: Net, end: e.AnyEvent, output: object, error: Fault | None
) -> None:
    await net.happen(*begun(PARENT), end)
    (command,) = net.queue.commands()
    assert isinstance(command, m.FinishChild)
    assert (command.id, command.workflow_id, command.frame) == (
        child_finished_command_id("wf"),
        "wf_parent",
        7,
    )
    assert (command.output, command.error) == (output, error)
    assert net.sink.ids == [command.id]


async def test_what_was_asked_for_is_read_off_the_log_after_a_restart(net: Net) -> None:
    await net.happen(*begun(PARENT))
    net.causes = net.restarted()
    await net.happen(e.WorkflowCompleted(), first=2)
    assert net.sink.ids == [child_finished_command_id("wf")]
    assert net.log.reads == 1


async def test_what_a_fenced_owner_wrote_is_not_what_was_asked_for(net: Net) -> None:
    net.log.add(turn("wf", 1, "owner-a", [e.WorkflowActivated()]))
    net.log.add(turn("wf", 1, "owner-b", [e.WorkflowActivated(), started()]))
    net.log.add(turn("wf", 1, "owner-a", [started(parent=PARENT)], first_seq=1))
    await net.happen(e.WorkflowCompleted(), first=2)
    assert net.sink.ids == [child_finished_command_id("wf")]


async def test_so_many_requests_are_remembered_and_none_of_what_is_over(
    net: Net, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(causes_module, "MAX_REQUESTS", 2)
    for workflow_id in ("a", "b", "c"):
        await net.happen(*begun(PARENT), workflow_id=workflow_id)
    assert list(net.causes._requests) == ["b", "c"]
    for workflow_id in ("a", "b", "c"):
        await net.happen(e.WorkflowCompleted(), workflow_id=workflow_id, first=2)
    assert list(net.causes._requests) == []
    assert net.sink.ids == [child_finished_command_id(key) for key in ("a", "b", "c")]
    assert net.log.reads == 2  # of `a`, and of `b`, which `a` has pushed out again


async def test_records_seen_again_cause_nothing_new(net: Net) -> None:
    await net.happen(*begun(PARENT), e.EventEmitted(event=EVENT), e.WorkflowCompleted())
    assert len(net.sink.ids) == 2
    await net.causes.observe(net.log.records)
    assert len(net.queue.commands()) == len(net.sink.ids) == 2


async def test_what_the_queue_refuses_is_offered_to_nobody(net: Net) -> None:
    net.error = DriverError("disk")
    with pytest.raises(DriverError):
        await net.happen(*begun(), e.EventEmitted(event=EVENT))
    assert net.sink.offers == []
    net.error = None
    await net.causes.observe(net.log.records)
    assert net.sink.ids == [event_command_id("", "/test", "e")]
