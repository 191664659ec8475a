"""Histories of workflows that never ran, as an engine would have written them: quickly many.

Each is five calls, one after the other, of a definition like that of the engine benchmark.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Final, Literal, TypeAlias

from orchx.domain import events as e
from orchx.domain.faults import RUNTIME, Fault

Ending: TypeAlias = Literal["completed", "faulted", "waiting", "running"]

TASKS: Final = 5
TURN_MS: Final = 20
DIGEST: Final = "sha256:" + "5" * 64


def made_history(
    number: int, *, at_ms: int, ending: Ending = "completed", callback: str | None = None
) -> list[list[e.Record]]:
    """Return the turns of a workflow, each of which is appended at once.

    Args:
        number: tells it from others; its id is made of it.
        at_ms: when it began, epoch milliseconds.
        ending: what is last: `running` ends after the third call, `waiting` there too, asleep.
        callback: a URL that its outcome is reported to.
    """
    workflow_id = f"wf_made{number:016d}"
    turns = _turns(number, ending, callback)
    history, seq = [], 0
    for place, events in enumerate(turns):
        turn = [
            e.Record(
                workflow_id=workflow_id,
                epoch=1,
                owner="owner-shared-0.0a1b2c3d",
                seq=seq + index,
                at_ms=at_ms + place * TURN_MS,
                event=event,
                traceparent=f"00-{number:032x}-{seq + index + 1:016x}-01",
            )
            for index, event in enumerate(events)
        ]
        seq += len(turn)
        history.append(turn)
    return history


def mixed_histories(
    count: int, *, first: int = 0, at_ms: int = 1_790_000_000_000, side_by_side: int = 64
) -> Iterator[Sequence[e.Record]]:
    """Yield the turns of so many workflows, as a log has them: some are under way at once.

    One of ten is faulted, one of twenty waits. The numbers count from `first`.
    """
    behind = first + count
    for start in range(first, behind, side_by_side):
        numbers = range(start, min(start + side_by_side, behind))
        histories = [
            made_history(number, at_ms=at_ms + number, ending=_ending_of(number))
            for number in numbers
        ]
        for place in range(max(map(len, histories))):
            for history in histories:
                if place < len(history):
                    yield history[place]


def appends(
    turns: Iterable[Sequence[e.Record]], *, turns_max: int = 500
) -> Iterator[list[e.Record]]:
    """Yield what can be appended at once, in order: of one workflow, one turn at a time."""
    records: list[e.Record] = []
    there: set[str] = set()
    for turn in turns:
        workflow_id = turn[0].workflow_id
        if workflow_id in there or len(there) >= turns_max:
            yield records
            records, there = [], set()
        records += turn
        there.add(workflow_id)
    if records:
        yield records


def _ending_of(number: int) -> Ending:
    if number % 20 == 7:
        return "waiting"
    return "faulted" if number % 10 == 3 else "completed"


def _turns(number: int, ending: Ending, callback: str | None) -> list[list[e.AnyEvent]]:
    done = TASKS if ending in ("completed", "faulted") else 3
    turns: list[list[e.AnyEvent]] = [
        [e.WorkflowActivated(), _started(number, callback), _task_started(0, number)]
    ]
    for task in range(done):
        completed = e.TaskCompleted(
            frame=task + 2, parent=1, reference=f"/do/{task}/step{task + 1}", output={"n": number}
        )
        following = [_task_started(task + 1, number)] if task + 1 < TASKS else []
        turns.append([completed, *following])
    if ending == "completed":
        turns[-1].append(e.WorkflowCompleted(output={"n": number}))
    elif ending == "faulted":
        fault = Fault(type=RUNTIME, status=500, title="made to fail")
        turns[-1].append(e.WorkflowFaulted(error=fault))
    elif ending == "waiting":
        turns.append([e.WorkflowPassivated(due_at_ms=4_000_000_000_000)])
    return turns


def _started(number: int, callback: str | None) -> e.WorkflowStarted:
    return e.WorkflowStarted(
        definition=e.DefinitionRef(
            namespace="bench", name="five-tasks", version="1.0.0", digest=DIGEST
        ),
        request=e.Request(
            tenant=f"tenant-{number % 3}",
            type="five-tasks",
            labels={"batch": str(number % 7)},
            callback=None if callback is None else e.Callback(url=callback),
        ),
        input={"n": number},
    )


def _task_started(task: int, number: int) -> e.TaskStarted:
    return e.TaskStarted(
        frame=task + 2,
        parent=1,
        reference=f"/do/{task}/step{task + 1}",
        kind="call",
        call=e.CallDetails(
            function="bench.echo", target="function", arguments={"n": number}, pool="cpu"
        ),
    )
