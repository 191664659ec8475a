"""Records to test with: the histories of made-up workflows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from orchx.domain import events as e
from orchx.domain.json_values import JSON

CALLBACK_URL = "https://hr.example.com/hook"


def started(
    callback: e.Callback | None = None, parent: e.ParentRef | None = None
) -> e.WorkflowStarted:
    return e.WorkflowStarted(
        definition=e.DefinitionRef(namespace="hr", name="onboard", version="1.0.0", digest="d"),
        request=e.Request(
            tenant="acme",
            type="hr.onboard",
            priority=3,
            deadline_ms=99,
            labels={"team": "a"},
            callback=callback,
            parent=parent,
        ),
        input={"n": 1},
    )


def task_started(frame: int, reference: str = "/do/0/a") -> e.TaskStarted:
    return e.TaskStarted(frame=frame, parent=1, reference=reference, kind="call")


def task_completed(
    frame: int, reference: str = "/do/0/a", *, output: JSON = True
) -> e.TaskCompleted:
    return e.TaskCompleted(frame=frame, parent=1, reference=reference, output={"ok": output})


def turn(
    workflow_id: str,
    epoch: int,
    owner: str,
    events: Sequence[e.AnyEvent],
    *,
    first_seq: int = 0,
    at_ms: int = 1_000,
) -> list[e.Record]:
    """Number events as one owner does, one millisecond apart."""
    return [
        e.Record(
            workflow_id=workflow_id,
            epoch=epoch,
            owner=owner,
            seq=first_seq + index,
            at_ms=at_ms + index,
            event=event,
            traceparent="00-aa-bb-01",
        )
        for index, event in enumerate(events)
    ]


def simple_run(
    workflow_id: str, *, callback: e.Callback | None = None, tasks: int = 5
) -> list[e.Record]:
    """Return a workflow of so many calls, from activation to completion."""
    events: list[e.AnyEvent] = [e.WorkflowActivated(), started(callback)]
    for number in range(tasks):
        events.append(task_started(number + 2, f"/do/{number}/t"))
        events.append(task_completed(number + 2, f"/do/{number}/t"))
    events.append(e.WorkflowCompleted(output={"done": workflow_id}))
    return turn(workflow_id, 1, "owner-a", events)


def numbered(records: Iterable[e.Record], after_offset: int = 0) -> list[e.Record]:
    """Give records the offsets that a log would."""
    return [
        msgspec.structs.replace(record, offset=after_offset + index)
        for index, record in enumerate(records, start=1)
    ]


def interleaved(*histories: Sequence[e.Record]) -> list[e.Record]:
    """Mix histories one record at a time, as a log of many live workflows is."""
    mixed = []
    for index in range(max(map(len, histories))):
        mixed += [history[index] for history in histories if index < len(history)]
    return mixed
