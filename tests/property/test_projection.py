"""However a log is cut into batches and restarts, the projection is its fold."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from orchx.domain import events as e
from orchx.engine.projector import Projector
from orchx.engine.summary import LiveSummary
from orchx.ports.state_store import WorkflowSummary
from orchx.settings import Settings
from orchx.testing.memory_event_log import MemoryEventLog
from orchx.testing.memory_state_store import MemoryStateStore
from orchx.testing.virtual_clock import VirtualClock
from tests.unit.engine.histories import started, task_completed, task_started

WORKFLOWS = ("w1", "w2", "w3")
EVENTS: tuple[e.AnyEvent, ...] = (
    e.WorkflowActivated(),
    e.WorkflowActivated(),
    started(),
    task_started(2, "/a"),
    task_completed(2, "/a"),
    e.CorrelationStarted(frame=2, types=["x", "y"]),
    e.CorrelationStarted(frame=3, types=[]),
    e.TaskCancelled(frame=3),
    e.WorkflowPassivated(due_at_ms=9),
    e.WorkflowCompleted(output=1),
    e.WorkflowCancelled(),
)

records = st.builds(
    e.Record,
    workflow_id=st.sampled_from(WORKFLOWS),
    epoch=st.integers(1, 3),
    owner=st.sampled_from(["a", "b"]),
    seq=st.integers(0, 4),
    at_ms=st.integers(1, 50),
    event=st.sampled_from(EVENTS),
)


@st.composite
def histories(draw: st.DrawFn) -> list[e.Record]:
    """Mostly well-numbered records of quarrelling owners, and some that fit nowhere."""
    log: list[e.Record] = []
    next_seq: dict[tuple[str, int, str], int] = {}
    for record in draw(st.lists(records, max_size=40)):
        key = (record.workflow_id, record.epoch, record.owner)
        if draw(st.integers(0, 9)):
            seq = next_seq.get(key, 0)
            next_seq[key] = seq + 1
            event = record.event if seq else e.WorkflowActivated()
            record = msgspec.structs.replace(record, seq=seq, event=event)
        log.append(record)
    return log


def fold(log: Sequence[e.Record]) -> dict[str, WorkflowSummary]:
    live = {workflow_id: LiveSummary(workflow_id) for workflow_id in WORKFLOWS}
    for record in log:
        if live[record.workflow_id].lineage.accepts(record):
            live[record.workflow_id].apply(record)
    return {key: value.freeze() for key, value in live.items() if value.lineage.epoch}


@given(histories(), st.data())
def test_the_projection_is_the_fold(log: list[e.Record], data: st.DataObject) -> None:
    async def project() -> None:
        event_log, store = MemoryEventLog(), MemoryStateStore()
        left = list(log)
        while left:  # the log grows, a new process projects, with its own batches and cache
            size = data.draw(st.integers(1, len(left)))
            await event_log.append(left[:size])
            del left[:size]
            subject = Projector(
                event_log,
                store,
                VirtualClock(),
                Settings(),
                batch_limit=data.draw(st.integers(1, 10)),
                live_limit=data.draw(st.integers(0, 3)),
            )
            while await subject.step():
                pass
        assert dict(await store.load(WORKFLOWS)) == fold(log)

    asyncio.run(project())
