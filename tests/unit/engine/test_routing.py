"""Who listens for what, which definition a child runs, what is queued once."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import pytest

from orchx.domain.events import ParentRef
from orchx.domain.faults import CONFIGURATION
from orchx.domain.keys import child_finished_command_id, event_command_id
from orchx.domain.messages import AnyCommand, FinishChild
from orchx.engine import routing
from orchx.engine.routing import Resolver, Subscriptions, broadcast_command, put_known
from orchx.errors import StorageFull
from orchx.ports.event_log import Claim
from orchx.testing.memory_catalog import MemoryCatalog
from orchx.testing.memory_command_queue import MemoryCommandQueue
from orchx.testing.memory_event_log import MemoryEventLog
from tests.unit.engine.dispatching import cancel, definition, event, start

# -- subscriptions -------------------------------------------------------------------------


def test_listeners_are_those_of_the_type_and_those_of_any() -> None:
    subscriptions = Subscriptions()
    subscriptions.add("moved", ["hr.moved"])
    subscriptions.add("left", ["hr.left"])
    subscriptions.add("both", ["hr.left", "hr.moved"])
    subscriptions.add("none-named", [])
    subscriptions.add("star", ["hr.left", "*"])
    assert subscriptions.listeners("hr.moved") == ["both", "moved", "none-named", "star"]
    assert subscriptions.listeners("hr.other") == ["none-named", "star"]


def test_a_workflow_listens_for_all_that_it_has_said_until_it_is_removed() -> None:
    subscriptions = Subscriptions()
    subscriptions.add("wf", ["hr.moved"])
    subscriptions.add("wf", ["hr.left"])
    subscriptions.add("other", ["hr.left"])
    assert subscriptions.listeners("hr.moved") == ["wf"]
    assert subscriptions.listeners("hr.left") == ["other", "wf"]
    subscriptions.add("wf", ["*"])
    subscriptions.remove("wf")
    assert subscriptions.listeners("hr.moved") == []
    assert subscriptions.listeners("hr.left") == ["other"]
    subscriptions.remove("wf")


def test_nothing_is_kept_of_those_that_were_removed() -> None:
    subscriptions = Subscriptions()
    subscriptions.add("wf", ["hr.moved", "hr.moved"])
    subscriptions.remove("wf")
    assert (subscriptions._by_type, subscriptions._types, subscriptions._any) == ({}, {}, set())


@pytest.mark.parametrize(
    ("commands", "size", "expected"),
    [
        (2, 10_000, [["a", "b"], ["c", "d"], ["e"]]),
        (9, 100, [["a", "b"], ["c", "d"], ["e"]]),
        (9, 10, [["a"], ["b"], ["c"], ["d"], ["e"]]),  # the event alone is larger
    ],
)
def test_an_event_for_many_reaches_all_of_them_in_parts(
    commands: int, size: int, expected: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(routing, "PART_COMMANDS", commands)
    monkeypatch.setattr(routing, "PART_BYTES", size)
    subscriptions = Subscriptions()
    for workflow_id in ("e", "c", "a", "b", "d"):
        subscriptions.add(workflow_id, [])
    parts = list(subscriptions.addressed_in_parts(event("e"), lambda _: True))
    assert [[command.workflow_id for command in part] for part in parts] == expected


def test_no_listener_is_left_out() -> None:
    subscriptions = Subscriptions()
    ids = [f"wf_{number:06}" for number in range(100_001)]
    for workflow_id in ids:
        subscriptions.add(workflow_id, [])
    assert subscriptions.listeners("hr.moved") == ids


def test_an_event_for_all_becomes_one_command_per_listener_with_an_id_of_its_own() -> None:
    subscriptions = Subscriptions()
    for workflow_id in ("a", "b"):
        subscriptions.add(workflow_id, ["hr.moved"])
    broadcast = event("e")
    ((first, second),) = subscriptions.addressed_in_parts(broadcast, lambda _: True)
    assert (first.id, first.workflow_id) == (event_command_id("a", "/test", "e"), "a")
    assert (second.id, second.workflow_id) == (event_command_id("b", "/test", "e"), "b")
    assert first.event == second.event == broadcast.event
    assert first.broadcast
    assert second.broadcast


def test_an_emitted_event_is_the_same_command_however_often_it_is_told() -> None:
    emitted = event("e").event
    first, again = broadcast_command(emitted, 1), broadcast_command(emitted, 2)
    assert first.id == again.id == event_command_id("", "/test", "e")
    assert (first.workflow_id, first.event) == ("", emitted)


# -- definitions of children ---------------------------------------------------------------

PARENT = ParentRef(workflow_id="parent", frame=7)


async def resolver(*queued: AnyCommand, log: MemoryEventLog | None = None) -> Resolver:
    """Return one whose catalog has `child`, and whose queue has what is given."""
    catalog, queue = MemoryCatalog(), MemoryCommandQueue()
    await catalog.publish(definition("child", "digest-of-child"))
    await queue.put(queued)
    return Resolver(catalog, queue, log or MemoryEventLog())


async def test_a_child_gets_the_digest_of_its_definition() -> None:
    command = start("kid", name="child", digest="", parent=PARENT)
    expected = start("kid", name="child", digest="digest-of-child", parent=PARENT)
    assert await (await resolver()).resolve(command) == expected


async def test_what_is_resolved_or_starts_nothing_stays_as_it_is() -> None:
    for command in (start("kid", name="gone", digest="known"), event("e")):
        assert await (await resolver()).resolve(command) is command


async def test_a_parent_learns_that_its_child_has_no_definition() -> None:
    told = await (await resolver()).resolve(start("kid", name="gone", digest="", parent=PARENT))
    assert isinstance(told, FinishChild)
    assert (told.id, told.workflow_id, told.frame) == (
        child_finished_command_id("kid"),
        "parent",
        7,
    )
    assert told.error is not None
    assert told.error.type == CONFIGURATION
    assert "t/gone:1.0.0" in (told.error.detail or "")


async def test_a_child_that_nobody_waits_for_and_that_has_no_definition_is_dropped() -> None:
    assert await (await resolver()).resolve(start("kid", name="gone", digest="")) is None


async def test_a_child_that_was_started_needs_its_definition_no_more() -> None:
    known = start("kid", name="gone", digest="of-the-retired-one", parent=PARENT)
    again = start("kid", name="gone", digest="", parent=PARENT)
    assert await (await resolver(known)).resolve(again) is None
    # the queue forgets what was applied long ago; the log does not
    log = MemoryEventLog()
    await log.claim(Claim(workflow_id="kid", owner="owner#1", at_ms=1))
    assert await (await resolver(log=log)).resolve(again) is None


async def test_a_child_that_was_started_keeps_its_version() -> None:
    catalog, queue = MemoryCatalog(), MemoryCommandQueue()
    finds = Resolver(catalog, queue, MemoryEventLog())
    told = start("kid", name="child", digest="", parent=PARENT)
    told = msgspec.structs.replace(told, version="latest")
    first = definition("child", "first")
    await catalog.publish(first)
    resolved = await finds.resolve(told)
    assert resolved is not None
    assert await put_known(queue, [resolved]) == [resolved]
    await catalog.publish(replace(first, version="2.0.0", digest="second"))
    again = await finds.resolve(told)
    assert again is not None
    assert await put_known(queue, [again]) == []
    assert await queue.find("kid") == resolved


async def test_only_a_child_that_was_started_is_cancelled() -> None:
    command = cancel("c", "kid")
    assert await (await resolver()).resolve(command) is None
    assert await (await resolver(start("kid"))).resolve(command) is command


# -- queueing ------------------------------------------------------------------------------


async def test_only_what_was_not_queued_before_is_offered() -> None:
    queue = MemoryCommandQueue()
    await queue.put([cancel("a", "wf")])
    new = cancel("b", "wf")
    assert await put_known(queue, [cancel("a", "wf"), new]) == [new]
    assert await put_known(queue, [new]) == []


async def test_one_that_is_told_differently_does_not_keep_the_others_out() -> None:
    queue = MemoryCommandQueue()
    await queue.put([event("a", kind="hr.moved"), event("b")])
    offered = [event("a", kind="hr.left"), event("b"), event("c")]
    assert await put_known(queue, offered) == [event("c")]
    assert await queue.find("a") == event("a", kind="hr.moved")
    assert await queue.find("c") == event("c")


async def test_a_full_disk_is_not_taken_for_a_repeat() -> None:
    async def full(_: str) -> None:
        raise StorageFull("no space")

    with pytest.raises(StorageFull):
        await put_known(MemoryCommandQueue(full), [cancel("a", "wf")])
