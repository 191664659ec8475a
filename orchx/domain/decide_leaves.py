"""How tasks begin, and how those that are not blocks end.

`begin` evaluates everything that a task needs before it records anything, so that an
error leaves no half-begun task: it becomes the task's fault.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from orchx.domain import document as d
from orchx.domain import events as e
from orchx.domain import faults
from orchx.domain import messages as m
from orchx.domain.children import MAX_CHILDREN, MAX_GENERATIONS
from orchx.domain.data_flow import Scope, moment, task_input
from orchx.domain.decide_calls import begin_call
from orchx.domain.decide_listen import begin_listen
from orchx.domain.decide_steps import complete, done_at_once, started
from orchx.domain.evolve import iteration_of_child
from orchx.domain.faults import WorkflowFault
from orchx.domain.json_values import JSON
from orchx.domain.keys import child_workflow_id, idempotency_key
from orchx.domain.state import Frame, call_site
from orchx.domain.turn import Turn

MAX_ITEMS = 100_000


def begin(turn: Turn, parent: Frame, task: d.Task) -> None:
    """Begin a task of a block: run it to its end, or to where it has to wait."""
    raw = parent.input if parent.kind == "fork" else parent.data
    scope = Scope(turn, parent, task, raw)
    turn.look_at(parent.id)
    try:
        if task.condition is not None and not scope.holds(task.condition, raw):
            turn.record(e.TaskSkipped(parent=parent.id, reference=task.reference))
            return
        data = task_input(scope, task)
        _BEGIN[type(task)](scope, task, data)
    except WorkflowFault as fault:
        error = fault.fault
        if error.instance is None:
            error = msgspec.structs.replace(error, instance=task.reference)
        turn.record(e.TaskFaulted(parent=parent.id, reference=task.reference, error=error))


def finish_outcome(turn: Turn, frame: Frame, outcome: m.TaskOutcome) -> None:
    """End a call with what the pool reported."""
    error = outcome.error
    if error is not None:
        if error.retry_after_ms is not None and _another_can(turn, frame, error):
            # that one service wants to be left alone is no reason to make another wait
            error = msgspec.structs.replace(error, retry_after_ms=None)
        turn.fault(frame, error, service=outcome.service)
    else:
        complete(
            turn,
            frame,
            outcome.output,
            duration_ms=outcome.duration_ms,
            service=outcome.service,
        )


def _another_can(turn: Turn, frame: Frame, error: faults.Fault) -> bool:
    """Return whether a retry of this call would go to another service."""
    call = frame.call
    if call is None or call.service is None or not faults.did_not_act(error):
        return False
    target = turn.env.target(call.function)
    if target is None or len(target.services) < 2:
        return False
    failures = turn.state.failures.get(call_site(frame.reference, frame.iteration), {})
    others = (failures.get(name, 0) for name in target.services if name != call.service)
    return min(others) <= failures.get(call.service, 0)


def finish_wait(turn: Turn, frame: Frame) -> None:
    """End a `wait` whose time has come."""
    if frame.due_at_ms is not None and frame.due_at_ms <= turn.env.now_ms:
        complete(turn, frame, frame.input)


def finish_child(turn: Turn, frame: Frame) -> None:
    """End a `run: workflow` whose child is over, or on its way if nobody awaits it."""
    if frame.child is not None and not frame.child.awaited:
        turn.start_child(frame)
        complete(turn, frame, frame.input)
        return
    if frame.outcome is None:
        return
    output, error = frame.outcome
    if error is not None:
        # the error keeps the child's story; the instance is where it shows here
        turn.fault(frame, msgspec.structs.replace(error, instance=frame.reference))
    else:
        complete(turn, frame, output)


def _begin_set(scope: Scope, task: d.SetTask, data: JSON) -> None:
    done_at_once(scope, task, scope.fill(task.value, data), "set")


def _begin_switch(scope: Scope, task: d.SwitchTask, data: JSON) -> None:
    chosen = task.then
    for case in task.cases:
        if case.when is None:
            chosen = case.then  # the default, unless a later case holds
        elif scope.holds(case.when, data):
            chosen = case.then
            break
    done_at_once(scope, task, data, "switch", then=chosen)


def _begin_raise(scope: Scope, task: d.RaiseTask, data: JSON) -> None:
    error = scope.fill(task.error, data)
    try:
        fault = msgspec.convert(error, faults.Fault, strict=False)
    except msgspec.ValidationError as problem:
        raise WorkflowFault(
            faults.standard(faults.CONFIGURATION, "not an error", detail=str(problem))
        ) from problem
    raise WorkflowFault(fault)


def _begin_emit(scope: Scope, task: d.EmitTask, data: JSON) -> None:
    turn = scope.turn
    event = scope.fill(task.event, data)
    if not isinstance(event, dict):
        raise WorkflowFault(faults.standard(faults.CONFIGURATION, "not an event"))
    iteration = iteration_of_child(scope.parent, task.reference)
    default_id = idempotency_key(turn.state.workflow_id, task.reference, iteration)
    event = {
        "specversion": "1.0",
        "id": default_id,
        "source": f"/v1/workflows/{turn.state.workflow_id}",
        "time": moment(turn.env.now_ms)["iso8601"],
        **event,
    }
    done_at_once(scope, task, event, "emit", emitted=event)


def _begin_wait(scope: Scope, task: d.WaitTask, data: JSON) -> None:
    due_at_ms = scope.turn.env.now_ms + scope.duration_ms(task.duration, data)
    started(scope, task, data, "wait", due_at_ms=due_at_ms)


def _begin_do(scope: Scope, task: d.DoTask, data: JSON) -> None:
    started(scope, task, data, "do")


def _begin_try(scope: Scope, task: d.TryTask, data: JSON) -> None:
    policy = task.catch.retry
    due_at_ms = None
    if policy is not None and policy.limit_attempt_duration is not None:
        limit_ms = scope.duration_ms(policy.limit_attempt_duration, data)
        due_at_ms = scope.turn.env.now_ms + limit_ms
    started(scope, task, data, "try", due_at_ms=due_at_ms)


def _begin_for(scope: Scope, task: d.ForTask, data: JSON) -> None:
    items = scope.value(task.items, data)
    if items is None:
        items = []
    if not isinstance(items, list) or len(items) > MAX_ITEMS:
        found = f"{len(items)} items" if isinstance(items, list) else type(items).__name__
        detail = f"`for.in` must give an array of at most {MAX_ITEMS} items, not {found}"
        raise WorkflowFault(faults.standard(faults.EXPRESSION, "not iterable", detail=detail))
    names = {"item": task.each, "index": task.at}
    started(scope, task, data, "for", items=items, variables=names)


def _begin_fork(scope: Scope, task: d.ForkTask, data: JSON) -> None:
    started(scope, task, data, "fork")


def _begin_run(scope: Scope, task: d.RunWorkflowTask, data: JSON) -> None:
    turn = scope.turn
    _check_limits(turn)
    child_input = data if task.input is None else scope.fill(task.input, data)
    child = e.ChildDetails(
        workflow_id=child_workflow_id(turn.state.workflow_id, turn.state.next_frame),
        namespace=task.namespace,
        name=task.workflow_name,
        version=task.version,
        input=child_input,
        awaited=task.await_,
    )
    frame = started(scope, task, data, "run", child=child)
    if task.await_:
        turn.start_child(frame)


def _check_limits(turn: Turn) -> None:
    """Raise a fault if this workflow may start no more children."""
    if turn.state.request.generation >= MAX_GENERATIONS:
        detail = f"{MAX_GENERATIONS} workflows stand above this one already"
        raise WorkflowFault(faults.standard(faults.RUNTIME, "Too many generations", detail=detail))
    if turn.state.children >= MAX_CHILDREN:
        detail = f"this workflow has started {MAX_CHILDREN} child workflows already"
        raise WorkflowFault(faults.standard(faults.RUNTIME, "Too many children", detail=detail))


_Begin = Callable[[Scope, Any, JSON], None]

_BEGIN: dict[type[d.Task], _Begin] = {
    d.SetTask: _begin_set,
    d.SwitchTask: _begin_switch,
    d.RaiseTask: _begin_raise,
    d.EmitTask: _begin_emit,
    d.WaitTask: _begin_wait,
    d.ListenTask: begin_listen,
    d.DoTask: _begin_do,
    d.TryTask: _begin_try,
    d.ForTask: _begin_for,
    d.ForkTask: _begin_fork,
    d.RunWorkflowTask: _begin_run,
    d.CallTask: begin_call,
}
