"""Taking up a workflow whose pinned plan this release cannot read: it ends, visibly."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import msgspec
import pytest

from orchx.domain import events as e
from orchx.domain.faults import CONFIGURATION
from orchx.domain.lineage import AcceptedRecords
from orchx.domain.state import ROOT
from orchx.engine.activation import Activator
from orchx.engine.environment import Directory, SchemaChecker, World
from orchx.engine.plans import Plans
from orchx.errors import Fenced
from orchx.ports.event_log import Claim
from orchx.testing.in_process_evaluator import InProcessEvaluator
from orchx.testing.memory_catalog import MemoryCatalog
from orchx.testing.memory_event_log import MemoryEventLog
from orchx.testing.rehearsal import RehearsalWorld
from tests.unit.engine.dispatching import start
from tests.unit.engine.histories import started

T = TypeVar("T")
NOW_MS = 7_000

# What `started` pins is the plan with digest `d`: here as no release reads it, or not at all.
UNREADABLE = [b'{"document": {"dsl": "9.0.0"}, "do": []}', b"{}", b"\x00damaged", None]


async def inline(function: Callable[[], T]) -> T:
    return function()


def activator(owner: str, log: MemoryEventLog) -> Activator:
    world = World(
        owner=owner,
        evaluator=InProcessEvaluator(),
        policy=RehearsalWorld({}),  # type: ignore[arg-type]  # no choice is made here
        directory=Directory({}, ()),
        schemas=SchemaChecker(),
        now=lambda: NOW_MS,
    )
    return Activator(owner, log, Plans(log, MemoryCatalog()), world, inline)


async def log_with_plan(source: bytes | None, *more: e.AnyEvent) -> MemoryEventLog:
    log = MemoryEventLog()
    claim = Claim(
        workflow_id="wf",
        owner="owner#1",
        at_ms=1,
        opening=[started(), *more],
        digest="d" if source is not None else None,
        definition=source,
    )
    await log.claim(claim)
    return log


@pytest.mark.parametrize("source", UNREADABLE)
async def test_a_workflow_whose_plan_cannot_be_read_ends_with_the_reason_in_the_log(
    source: bytes | None,
) -> None:
    log = await log_with_plan(source)
    taken = await activator("owner#2", log).take_up("wf")
    assert (taken.live, taken.state.status) == (None, "faulted")
    last = list(AcceptedRecords().of(await log.read("wf")))[-1]
    assert (last.epoch, last.owner, last.at_ms) == (2, "owner#2", NOW_MS)
    assert isinstance(last.event, e.WorkflowFaulted)
    assert (last.event.error.type, last.event.error.title) == (
        CONFIGURATION,
        "Plan cannot be read",
    )
    assert last.event.error.detail
    assert taken.state.error == last.event.error


async def test_it_ends_once_and_is_not_claimed_again() -> None:
    log = await log_with_plan(None)
    await activator("owner#2", log).take_up("wf")
    written = await log.last_offset()
    again = await activator("owner#3", log).take_up("wf")
    assert (again.live, again.state.status) == (None, "faulted")
    assert await log.last_offset() == written


async def test_the_children_that_it_waits_for_are_cancelled() -> None:
    child = e.ChildDetails(
        workflow_id="wf_child", namespace="t", name="w", version="1.0.0", input=None, awaited=True
    )
    detached = msgspec.structs.replace(child, workflow_id="wf_detached", awaited=False)
    begun = [
        e.TaskStarted(frame=1, parent=ROOT, reference="/do/0/a", kind="run", child=child),
        e.TaskStarted(frame=2, parent=ROOT, reference="/do/1/b", kind="run", child=detached),
    ]
    log = await log_with_plan(None, *begun)
    await activator("owner#2", log).take_up("wf")
    ended = [record.event for record in await log.read("wf", after_offset=5)]
    assert [getattr(event, "abandoned_child", None) for event in ended] == ["wf_child", None]
    assert isinstance(ended[-1], e.WorkflowFaulted)


async def test_what_was_claimed_and_never_begun_is_begun_by_the_next_claim() -> None:
    """An owner died between its claim and the first events."""
    log = MemoryEventLog()
    await log.claim(Claim(workflow_id="wf", owner="owner#1", at_ms=1))
    started_now = await activator("owner#2", log).start(start("wf"))
    assert started_now.epoch == 2
    assert started_now.state.status == "faulted"  # nobody has published that definition
    counted = list(AcceptedRecords().of(await log.read("wf")))
    assert [(r.epoch, r.seq, type(r.event)) for r in counted] == [
        (1, 0, e.WorkflowActivated),
        (2, 0, e.WorkflowActivated),
        (2, 1, e.WorkflowStarted),
        (2, 2, e.WorkflowFaulted),
    ]
    again = await activator("owner#3", log).start(start("wf"))
    assert again.state.status == "faulted"
    assert len(await log.read("wf")) == len(counted) + 1  # its claim, and no second beginning


async def test_a_late_beginning_that_another_owner_has_fenced_is_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    log = MemoryEventLog()
    await log.claim(Claim(workflow_id="wf", owner="owner#1", at_ms=1))
    append = log.append

    async def overtaken(records: Sequence[e.Record]) -> None:
        await log.claim(Claim(workflow_id="wf", owner="owner#3", at_ms=2))
        await append(records)

    monkeypatch.setattr(log, "append", overtaken)
    with pytest.raises(Fenced, match="before it was opened"):
        await activator("owner#2", log).start(start("wf"))
