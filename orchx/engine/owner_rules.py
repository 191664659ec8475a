"""What an owner reads off a workflow and its turns: who listens, what others act on, the end."""

from __future__ import annotations

from collections.abc import Iterator

from orchx.domain import messages as m
from orchx.domain.decide_listen import types_listened_for
from orchx.domain.document import ListenTask
from orchx.domain.state import WorkflowState
from orchx.domain.turn import Turn
from orchx.engine.live import Live
from orchx.errors import Bug
from orchx.ports.supervision import Ending


def listens(live: Live) -> Iterator[list[str]]:
    """Yield the event types of each task that listens now; an empty list is any type."""
    for frame in live.state.frames.values():
        task = live.plan.definition.tasks.get(frame.reference)
        if isinstance(task, ListenTask):
            yield types_listened_for(task)


def matters(live: Live, turn: Turn) -> bool:
    """Return whether others act on what this turn has recorded."""
    return (
        any(not isinstance(effect, m.Execute | m.Abandon) for effect in turn.effects)
        or any(isinstance(message, m.Command) for message in live.taken)
        or turn.state.passivated
    )


def ending_of(state: WorkflowState, *, epoch: int, told: bool) -> Ending:
    """Return the news of a workflow that is over, with all details if somebody waits (`told`)."""
    if state.ended_at_ms is None or state.status == "new" or state.status == "running":
        raise Bug(f"{state.workflow_id} is {state.status}, not over")
    if not told:
        return Ending(
            workflow_id=state.workflow_id, status=state.status, ended_at_ms=state.ended_at_ms
        )
    return Ending(
        workflow_id=state.workflow_id,
        status=state.status,
        ended_at_ms=state.ended_at_ms,
        output=state.output,
        error=state.error,
        told=True,
        epoch=epoch,
        task=state.task,
        tasks_completed=state.tasks_completed,
        tasks_faulted=state.tasks_faulted,
        retries=state.retries,
    )
