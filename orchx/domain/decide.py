"""decide(state, plan, message, environment) -> Turn: what happens next, and why.

A decision takes one message, records what it means, and then goes on from frame to frame
until nothing more can happen without the outside. It can start from
any state that a prefix of the log folds to: what is next is always read off the state.
"""

from __future__ import annotations

import msgspec

from orchx.domain import events as e
from orchx.domain import faults
from orchx.domain import messages as m
from orchx.domain.data_flow import Scope, check
from orchx.domain.decide_blocks import ADVANCE, End
from orchx.domain.decide_leaves import finish_outcome
from orchx.domain.decide_listen import drop_unwanted, match_inbox, receive
from orchx.domain.document import Definition
from orchx.domain.environment import Environment
from orchx.domain.faults import WorkflowFault
from orchx.domain.json_values import JSON
from orchx.domain.state import ROOT, Frame, WorkflowState
from orchx.domain.turn import Turn

MAX_EVENTS_PER_WORKFLOW = 250_000
MAX_BYTES_PER_WORKFLOW = 256 * 1_048_576


def open_workflow(start: m.StartWorkflow, plan: Definition, env: Environment) -> Turn:
    """Return the first turn of a workflow: started, and as far as it goes by itself."""
    turn = Turn(WorkflowState(start.workflow_id), plan, env)
    definition = e.DefinitionRef(
        namespace=start.namespace, name=start.name, version=start.version, digest=start.digest
    )
    draft = Frame(id=ROOT, parent=ROOT, reference="", kind="root")
    data: JSON = msgspec.UNSET
    problem: faults.Fault | None = None
    timeout_at_ms = start.request.deadline_ms
    turn.state.input, turn.state.started_at_ms = start.input, env.now_ms
    try:
        check(turn, plan.data.input_schema, start.input, "the workflow's input")
        scope = Scope(turn, draft, None, start.input)
        if plan.data.input_from is not None:
            data = scope.fill(plan.data.input_from, start.input)
        if plan.timeout is not None:
            limit = env.now_ms + scope.duration_ms(plan.timeout, start.input)
            timeout_at_ms = limit if timeout_at_ms is None else min(limit, timeout_at_ms)
    except WorkflowFault as fault:
        problem = fault.fault
    turn.record(
        e.WorkflowStarted(
            definition=definition,
            request=start.request,
            input=start.input,
            data=data,
            timeout_at_ms=timeout_at_ms,
            error=problem,
            created_at_ms=start.created_at_ms,
        )
    )
    _fire_timers(turn)  # a request may have been waiting beyond its deadline
    if not turn.state.terminal:
        turn.look_at(ROOT)
        settle(turn)
    return turn


def decide(state: WorkflowState, plan: Definition, message: m.Message, env: Environment) -> Turn:
    """Return the turn that a message leads to; an empty one if it means nothing (any more)."""
    turn = Turn(state, plan, env)
    if state.terminal or state.status == "new":
        return turn
    problem = _too_long(state)
    if problem is not None:
        fault_workflow(turn, problem)
    elif isinstance(message, m.Resume):
        _resume(turn, message.again)
    else:
        _take(turn, message)
        settle(turn)
    if turn.state.inbox and not turn.unsettled:
        listening = any(isinstance(event, e.CorrelationStarted) for event in turn.events)
        if listening or isinstance(message, m.Resume):
            drop_unwanted(turn)
    return turn


def settle(turn: Turn) -> None:
    """Go on until nothing more can be decided, or the turn is full."""
    while turn.dirty and not turn.state.terminal:
        if turn.full:
            turn.unsettled = True
            turn.dirty.clear()
            break
        frame = turn.state.frames.get(turn.dirty.popleft())
        if frame is None:
            continue
        advance = ADVANCE.get(frame.kind)
        if advance is None:
            continue
        problem = _too_long(turn.state)
        if problem is not None:
            fault_workflow(turn, problem)
            break
        ending = advance(turn, frame)
        if isinstance(ending, End):
            complete_workflow(turn, ending.data)
        elif ending is not None:
            fault_workflow(turn, ending)


def complete_workflow(turn: Turn, output: JSON) -> None:
    """End the workflow in good order; `output` is what its last task gave."""
    root = turn.state.frames[ROOT]
    try:
        if turn.plan.data.output_as is not None:
            output = Scope(turn, root, None, output).fill(turn.plan.data.output_as, output)
        check(turn, turn.plan.data.output_schema, output, "the workflow's output")
    except WorkflowFault as fault:
        fault_workflow(turn, fault.fault)
        return
    turn.cancel_below(ROOT, "the workflow ended")
    turn.record(e.WorkflowCompleted(output=output))
    turn.finish()


def fault_workflow(turn: Turn, fault: faults.Fault) -> None:
    """End the workflow with an error."""
    turn.cancel_below(ROOT, "the workflow faulted")
    turn.record(e.WorkflowFaulted(error=fault))
    turn.finish()


def cancel_workflow(turn: Turn, reason: str) -> None:
    """End the workflow because someone asked for it (which is recorded)."""
    turn.cancel_below(ROOT, "the workflow was cancelled")
    turn.record(e.WorkflowCancelled(reason=reason))
    turn.finish()


def _take(turn: Turn, message: m.News) -> None:
    """Record what a message means."""
    if isinstance(message, m.TaskOutcome):
        frame = turn.state.frames.get(message.frame)
        if frame is not None and frame.kind == "call" and message.key in ("", turn.key_of(frame)):
            finish_outcome(turn, frame, message)
    elif isinstance(message, m.TimerFired):
        _fire_timers(turn)
    elif message.id in turn.state.commands:
        return
    elif isinstance(message, m.DeliverEvent):
        receive(turn, message)
    elif isinstance(message, m.CancelWorkflow):
        turn.record(e.CancelRequested(command_id=message.id, reason=message.reason, by=message.by))
        cancel_workflow(turn, message.reason)
    else:
        turn.record(
            e.ChildFinished(
                command_id=message.id,
                frame=message.frame,
                output=message.output,
                error=message.error,
            )
        )
        turn.look_at(message.frame)


def _resume(turn: Turn, again: bool) -> None:
    """Decide whatever was left undecided; `again`: dispatch what was under way again."""
    if turn.state.cancel_reason is not None:
        cancel_workflow(turn, turn.state.cancel_reason)
        return
    _fire_timers(turn)
    for frame_id in sorted(turn.state.frames):
        turn.look_at(frame_id)
    match_inbox(turn)
    settle(turn)
    if not again:
        return
    begun = {
        effect.frame for effect in turn.effects if isinstance(effect, m.Execute | m.StartChild)
    }
    for frame in list(turn.state.frames.values()):
        if frame.id in begun:
            continue
        if frame.kind == "call":
            turn.execute(frame)
        elif frame.kind == "run" and frame.outcome is None:
            turn.start_child(frame)


def _fire_timers(turn: Turn) -> None:
    """Act on every timer that is due, the earliest first, outer tasks before inner ones."""
    now_ms = turn.env.now_ms
    due = sorted(
        (moment_ms, frame.id, kind)
        for frame in turn.state.frames.values()
        for moment_ms, kind in ((frame.timeout_at_ms, 0), (frame.due_at_ms, 1))
        if moment_ms is not None and moment_ms <= now_ms
    )
    for _, frame_id, kind in due:
        frame = turn.state.frames.get(frame_id)
        if turn.state.terminal or frame is None:
            continue
        if kind == 1:
            turn.look_at(frame_id)
        elif frame_id == ROOT:
            fault_workflow(turn, _timed_out("the workflow", frame))
        else:
            turn.time_out(frame, _timed_out("the task", frame))


def _timed_out(what: str, frame: Frame) -> faults.Fault:
    allowed_ms = (frame.timeout_at_ms or 0) - frame.started_at_ms
    return faults.standard(
        faults.TIMEOUT, "Timeout", detail=f"{what} was not done within {allowed_ms} ms"
    )


def _too_long(state: WorkflowState) -> faults.Fault | None:
    """Return the error of a workflow whose history is at its limit, in events or in bytes."""
    if state.events > MAX_EVENTS_PER_WORKFLOW:
        detail = f"more than {MAX_EVENTS_PER_WORKFLOW} events"
    elif state.bytes > MAX_BYTES_PER_WORKFLOW:
        detail = f"more than {MAX_BYTES_PER_WORKFLOW} bytes of events"
    else:
        return None
    return faults.standard(faults.RUNTIME, "History limit reached", detail=detail)
