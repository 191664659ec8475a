from __future__ import annotations

from typing import Any, get_args

import msgspec
import pytest

from orchx.domain import events
from orchx.domain.cloud_events import (
    MAX_TIME_MS,
    CloudEvents,
    LogCloudEvents,
    cloud_event_type,
    rfc3339,
)
from orchx.domain.events import AnyEvent, Record
from orchx.domain.faults import COMMUNICATION, Fault

REFERENCE = events.DefinitionRef(namespace="hr", name="leave", version="1.0.0", digest="d")
STARTED = events.WorkflowStarted(definition=REFERENCE, request=events.Request(), input={"a": 1})
TASK = events.TaskStarted(frame=2, parent=1, reference="/do/0/x", kind="call")
FAULT = Fault(type=COMMUNICATION, status=503)
TIME = "2026-03-01T09:30:00.007Z"


def _record(event: AnyEvent, **more: Any) -> Record:
    return Record(
        workflow_id="wf_1", epoch=3, owner="o", seq=12, at_ms=1_772_357_400_007, event=event, **more
    )


@pytest.mark.parametrize(
    ("event", "kind", "data"),
    [
        (
            STARTED,
            "io.serverlessworkflow.workflow.started.v1",
            {"name": "leave-wf_1.hr", "startedAt": TIME, "input": {"a": 1}},
        ),
        (
            events.WorkflowCompleted(),
            "io.serverlessworkflow.workflow.completed.v1",
            {"name": "leave-wf_1.hr", "completedAt": TIME, "output": None},
        ),
        (
            events.WorkflowFaulted(error=FAULT),
            "io.serverlessworkflow.workflow.faulted.v1",
            {"faultedAt": TIME, "error": {"type": COMMUNICATION, "status": 503}},
        ),
        (
            events.TaskRetried(frame=2, attempt=2, due_at_ms=5, error=FAULT),
            "io.serverlessworkflow.task.retried.v1",
            {"workflow": "leave-wf_1.hr", "task": "/do/0/x", "retriedAt": TIME, "attempt": 2},
        ),
        (events.WorkflowPassivated(due_at_ms=9), "io.orchx.workflow.passivated.v1", {"dueAtMs": 9}),
    ],
)
def test_standard_types_have_the_standards_data(
    event: AnyEvent, kind: str, data: dict[str, Any]
) -> None:
    shown = CloudEvents("wf_1", namespace="hr", name="leave")
    shown.learn([_record(TASK)])
    rendered = shown.render(_record(event, traceparent="00-t", offset=77))
    assert rendered["type"] == kind
    assert rendered["data"].items() >= data.items()
    assert rendered["id"] == "wf_1/3/12"
    assert (rendered["workflowid"], rendered["epoch"]) == ("wf_1", 3)
    assert (rendered["sequence"], rendered["logoffset"]) == ("0000000012", "77")
    assert rendered["time"] == TIME
    assert rendered["traceparent"] == "00-t"


def test_every_event_has_a_type_and_attribute_names_are_lawful() -> None:
    kinds = {cloud_event_type(_example(kind)) for kind in get_args(AnyEvent)}
    assert len(kinds) == len(get_args(AnyEvent))
    rendered = CloudEvents("wf_1").render(_record(TASK))
    assert all(name.isascii() and name.isalnum() and name.islower() for name in rendered)
    assert rendered["taskreference"] == "/do/0/x"
    assert msgspec.json.decode(msgspec.json.encode(rendered)) == rendered


def _example(kind: type[events.Event]) -> Any:
    return kind(**dict.fromkeys(kind.__struct_fields__))  # structs do not check types


def test_records_of_a_whole_log_are_named_once_their_start_was_seen() -> None:
    shown = LogCloudEvents(limit=1)
    assert shown(_record(STARTED))["data"]["name"] == "leave-wf_1.hr"
    assert shown(_record(TASK))["data"]["workflow"] == "leave-wf_1.hr"
    shown(msgspec.structs.replace(_record(STARTED), workflow_id="wf_2"))
    assert shown(_record(TASK))["data"]["workflow"] == "wf_1"


def test_times_are_utc_with_milliseconds() -> None:
    assert rfc3339(0) == "1970-01-01T00:00:00.000Z"
    assert rfc3339(1_772_357_400_999) == "2026-03-01T09:30:00.999Z"


@pytest.mark.parametrize(
    ("at_ms", "shown"),
    [
        (MAX_TIME_MS, "9998-12-31T23:59:59.999Z"),
        (MAX_TIME_MS + 1, "9998-12-31T23:59:59.999Z"),
        (253_402_387_139_000, "9998-12-31T23:59:59.999Z"),
        (2**63 - 1, "9998-12-31T23:59:59.999Z"),
        (-1, "1970-01-01T00:00:00.000Z"),
        (-(2**63), "1970-01-01T00:00:00.000Z"),
    ],
)
def test_a_time_that_no_calendar_has_is_shown_as_the_nearest_one(at_ms: int, shown: str) -> None:
    assert rfc3339(at_ms) == shown
