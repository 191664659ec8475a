"""What a listing says of a workflow, from the records that count."""

from __future__ import annotations

from typing import cast

import msgspec
import pytest

from orchx.domain import events as e
from orchx.domain.faults import Fault
from orchx.engine.summary import LiveSummary
from orchx.ports.state_store import WorkflowSummary
from tests.unit.engine.histories import simple_run, started, task_completed, task_started, turn

FAULT = Fault(type="https://example.com/broken", status=500, title="Broken")


def fold(*events: e.AnyEvent) -> WorkflowSummary:
    return fold_records(turn("w", 1, "a", events))


def fold_records(records: list[e.Record]) -> WorkflowSummary:
    live = LiveSummary("w")
    for record in live.lineage.of(records):
        live.apply(record)
    return live.freeze()


def test_activated_alone_is_pending() -> None:
    summary = fold(e.WorkflowActivated())
    assert (summary.status, summary.created_at_ms, summary.epoch, summary.owner) == (
        "pending",
        1_000,
        1,
        "a",
    )


def test_a_started_workflow_shows_its_request() -> None:
    parent = e.ParentRef(workflow_id="p", frame=4)
    summary = fold(e.WorkflowActivated(), started(parent=parent))
    assert summary == WorkflowSummary(
        workflow_id="w",
        status="running",
        namespace="hr",
        name="onboard",
        version="1.0.0",
        tenant="acme",
        type="hr.onboard",
        priority=3,
        deadline_ms=99,
        created_at_ms=1_000,
        updated_at_ms=1_001,
        epoch=1,
        owner="a",
        seq=1,
        parent_id="p",
        labels={"team": "a"},
        traceparent="00-aa-bb-01",
    )


def test_tasks_faults_and_retries_are_counted() -> None:
    summary = fold(
        e.WorkflowActivated(),
        started(),
        task_started(2, "/do/0/a"),
        e.TaskFaulted(parent=1, reference="/do/0/a", error=FAULT, frame=2),
        e.TaskRetried(frame=1, attempt=2, due_at_ms=5, error=FAULT),
        task_started(3, "/do/0/a"),
        task_completed(3, "/do/0/a"),
    )
    assert (summary.tasks_completed, summary.tasks_faulted, summary.retries) == (1, 1, 1)


def test_the_task_is_the_one_most_recently_begun() -> None:
    begun = (e.WorkflowActivated(), started(), task_started(2, "/a"), task_started(3, "/b"))
    assert fold(*begun).task == "/b"
    assert fold(*begun, task_completed(2, "/a")).task == "/b"
    instantaneous = e.TaskCompleted(parent=1, reference="/c")
    assert fold(*begun, instantaneous).task == "/c"


def test_a_passivated_workflow_waits_until_it_is_activated_again() -> None:
    asleep = turn(
        "w", 1, "a", [e.WorkflowActivated(), started(), e.WorkflowPassivated(due_at_ms=77)]
    )
    summary = fold_records(asleep)
    assert (summary.status, summary.passivated, summary.due_at_ms) == ("waiting", True, 77)
    summary = fold_records([*asleep, *turn("w", 2, "b", [e.WorkflowActivated()])])
    assert (summary.status, summary.passivated, summary.due_at_ms) == ("running", False, None)
    assert (summary.epoch, summary.owner, summary.seq) == (2, "b", 0)


def test_a_fenced_owner_s_activation_does_not_wake_it() -> None:
    asleep = turn("w", 1, "a", [e.WorkflowActivated(), started(), e.WorkflowPassivated()])
    summary = fold_records([*asleep, *turn("w", 1, "b", [e.WorkflowActivated()])])
    assert summary.status == "waiting"


@pytest.mark.parametrize(("types", "shown"), [([], ("*",)), (["x", "y", "x"], ("x", "y"))])
def test_it_shows_what_it_listens_for(types: list[str], shown: tuple[str, ...]) -> None:
    summary = fold(
        e.WorkflowActivated(),
        started(),
        e.CorrelationStarted(frame=5, types=types),
        e.WorkflowPassivated(),
    )
    assert summary.listens == shown
    assert summary.listening == (5,) * len(shown)


def test_one_of_two_listeners_ends_after_a_restart() -> None:
    live = LiveSummary("w")
    events: list[e.AnyEvent] = [
        e.WorkflowActivated(),
        started(),
        e.CorrelationStarted(frame=5, types=["x"]),
        e.CorrelationStarted(frame=6, types=["x", "y"]),
        e.WorkflowPassivated(),
    ]
    for record in live.lineage.of(turn("w", 1, "a", events)):
        live.apply(record)
    thawed = LiveSummary.thaw(live.freeze())
    for record in thawed.lineage.of(turn("w", 2, "b", [e.WorkflowActivated(), task_completed(5)])):
        thawed.apply(record)
    assert thawed.freeze().listens == ("x", "y")
    assert thawed.freeze().listening == (6, 6)


@pytest.mark.parametrize(
    "end",
    [
        e.TaskFaulted(parent=1, reference="/l", error=FAULT, frame=5),
        e.TaskCancelled(frame=5),
        task_completed(5),
        e.WorkflowCancelled(),
    ],
)
def test_a_listener_that_ended_listens_no_more(end: e.AnyEvent) -> None:
    summary = fold(
        e.WorkflowActivated(), started(), e.CorrelationStarted(frame=5, types=["x"]), end
    )
    assert summary.listens == ()


@pytest.mark.parametrize(
    ("end", "status"),
    [
        (e.WorkflowCompleted(output={"x": 1}), "completed"),
        (e.WorkflowFaulted(error=FAULT), "faulted"),
        (e.WorkflowCancelled(reason="no"), "cancelled"),
    ],
)
def test_it_ends_once(end: e.AnyEvent, status: str) -> None:
    records = turn("w", 1, "a", [e.WorkflowActivated(), started(), end], at_ms=10)
    summary = fold_records(records)
    assert (summary.status, summary.ended_at_ms) == (status, 12)
    assert summary.output == ({"x": 1} if status == "completed" else None)
    assert summary.error == (FAULT.as_json() if status == "faulted" else None)
    late = turn(
        "w", 2, "b", [e.WorkflowActivated(), e.CommandRefused(command_id="c", reason="late")]
    )
    after = fold_records([*records, *late])
    assert (after.status, after.ended_at_ms, after.updated_at_ms) == (status, 12, 12)
    assert (after.epoch, after.owner, after.seq) == (2, "b", 1)  # the rule still holds


def test_thaw_undoes_freeze_after_every_record() -> None:
    records = simple_run("w")
    live = LiveSummary("w")
    for record in records:
        assert live.lineage.accepts(record)
        live.apply(record)
        frozen = live.freeze()
        live = LiveSummary.thaw(frozen)
        assert live.freeze() == frozen
    assert live.freeze() == fold_records(records)


def test_an_event_of_a_newer_release_changes_nothing() -> None:
    unheard = msgspec.defstruct("Unheard", [], bases=(e.Event,), tag="unheard.of", frozen=True)
    live = LiveSummary("w")
    for record in simple_run("w")[:2]:
        assert live.lineage.accepts(record)
        live.apply(record)
    before = live.freeze()
    record = e.Record(
        workflow_id="w",
        epoch=1,
        owner="owner-a",
        seq=2,
        at_ms=1,
        event=cast(e.AnyEvent, unheard()),
    )
    live.apply(record)
    assert live.freeze() == before
