"""What composite tasks do next: the workflow's own block, do, for, fork and try.

Each function looks at one frame and moves it on by one step, or leaves it be. It returns
nothing, or how the whole workflow ends.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from orchx.domain import events as e
from orchx.domain import faults
from orchx.domain.data_flow import Scope
from orchx.domain.decide_leaves import begin, finish_child, finish_wait
from orchx.domain.decide_listen import finish_listen
from orchx.domain.decide_steps import complete, end_from, scope_of
from orchx.domain.document import Block, DoTask, ErrorFilter, ForkTask, ForTask, Task, TryTask
from orchx.domain.faults import Fault, WorkflowFault
from orchx.domain.json_values import JSON
from orchx.domain.retry import retry_due_ms
from orchx.domain.state import Frame
from orchx.domain.turn import Turn
from orchx.errors import Bug

STANDARD_AUTHORITY = "https://serverlessworkflow.io/"


@dataclass(frozen=True, slots=True)
class End:
    """The workflow ends in good order; `data` is what its last task gave."""

    data: JSON


class Step(Enum):
    """Where a block stands, when there is no next task to begin."""

    BUSY = "a child is running"
    DONE = "nothing more to do"
    END = "a child ended the workflow"


def next_in_block(turn: Turn, frame: Frame, block: Block) -> Task | Step:
    """Return the task that a block goes on with, by the last child's flow directive."""
    if frame.active:
        return Step.BUSY
    if frame.last is None:
        return block.tasks[0]
    if frame.then == "end":
        return Step.END
    if frame.then == "exit":
        return Step.DONE
    if frame.then != "continue":
        return block.tasks[block.position[frame.then]]
    following = block.position[turn.plan.tasks[frame.last].name] + 1
    return block.tasks[following] if following < len(block.tasks) else Step.DONE


def _advance_root(turn: Turn, frame: Frame) -> End | Fault | None:
    if frame.raised is not None:
        return frame.raised
    step = next_in_block(turn, frame, turn.plan.block)
    if isinstance(step, Task):
        begin(turn, frame, step)
        return None
    return None if step is Step.BUSY else End(frame.data)


def _advance_do(turn: Turn, frame: Frame) -> End | Fault | None:
    task = turn.plan.task(frame.reference, DoTask)
    if frame.raised is not None:
        turn.fault(frame, frame.raised)
        return None
    _go_on(turn, frame, task.block)
    return None


def _go_on(turn: Turn, frame: Frame, block: Block) -> None:
    """Begin the next task of a block, or complete the frame with what the last one gave."""
    step = next_in_block(turn, frame, block)
    if isinstance(step, Task):
        begin(turn, frame, step)
    elif step is Step.END:
        end_from(turn, frame, frame.data)
    elif step is Step.DONE:
        complete(turn, frame, frame.data)


def _advance_for(turn: Turn, frame: Frame) -> End | Fault | None:
    task = turn.plan.task(frame.reference, ForTask)
    if frame.raised is not None:
        turn.fault(frame, frame.raised)
        return None
    if frame.index >= 0:
        step = next_in_block(turn, frame, task.block)
        if isinstance(step, Task):
            begin(turn, frame, step)
            return None
        if step is Step.BUSY:
            return None
        if step is Step.END:
            end_from(turn, frame, frame.data)
            return None
    _iterate(turn, frame, task)
    return None


def _iterate(turn: Turn, frame: Frame, task: ForTask) -> None:
    """Begin the next iteration, or complete the loop with what the last one gave."""
    index = frame.index + 1
    items = frame.items or []
    try:
        going = index < len(items)
        if going and task.while_ is not None:
            scope = scope_of(turn, frame)
            scope.local = {task.each: items[index], task.at: index}
            going = scope.holds(task.while_, frame.data)
    except WorkflowFault as fault:
        turn.fault(frame, fault.fault)
        return
    if going:
        turn.record(e.IterationStarted(frame=frame.id, index=index))
        turn.look_at(frame.id)
    else:
        complete(turn, frame, frame.data)


def _advance_fork(turn: Turn, frame: Frame) -> End | Fault | None:
    task = turn.plan.task(frame.reference, ForkTask)
    branch = _next_branch(frame, task)
    winner = _winner(frame) if task.compete else None
    if frame.then == "end":
        end_from(turn, frame, frame.data)
    elif frame.raised is not None and not task.compete:
        turn.fault(frame, frame.raised)
    elif winner is not None:
        turn.cancel_below(frame.id, "another branch won")
        complete(turn, turn.state.frames[frame.id], frame.results[winner])
    elif branch is not None:
        begin(turn, frame, branch)
    elif frame.active:
        return None
    elif frame.raised is not None:  # all who could win have failed
        turn.fault(frame, frame.raised)
    elif task.compete:  # nobody has run
        complete(turn, frame, frame.input)
    else:
        complete(turn, frame, [frame.results[i] for i in range(len(frame.results))])
    return None


def _winner(fork: Frame) -> int | None:
    """Return the branch that gave a result first; one that was skipped has not run."""
    return next((branch for branch in fork.results if branch not in fork.skipped), None)


def _next_branch(frame: Frame, task: ForkTask) -> Task | None:
    """Return the first branch that has not begun and has nothing to wait for any more."""
    for index, branch in enumerate(task.branches.tasks):
        if index not in frame.begun and all(i in frame.results for i in task.after[index]):
            return branch
    return None


def _advance_try(turn: Turn, frame: Frame) -> End | Fault | None:
    task = turn.plan.task(frame.reference, TryTask)
    due = frame.due_at_ms is not None and frame.due_at_ms <= turn.env.now_ms
    if frame.phase == "catch":
        if frame.raised is not None:
            turn.fault(frame, frame.raised)
            return None
        if task.catch.block is None:
            raise Bug(f"{frame.reference} has nothing to do in its catch")
        _go_on(turn, frame, task.catch.block)
        return None
    if frame.phase == "backoff":
        if due:
            _run_again(turn, frame, task)
        return None
    if frame.raised is not None:
        _handle(turn, frame, task, frame.raised)
        return None
    if due:
        turn.cancel_below(frame.id, "the run took too long", overdue=True)
        detail = f"run {frame.attempt} reached the limit of one attempt's duration"
        error = faults.standard(faults.TIMEOUT, "Timeout", detail=detail)
        frame = turn.state.frames[frame.id]
        _handle(turn, frame, task, _at(error, frame.reference))
        return None
    _go_on(turn, frame, task.block)
    return None


def _run_again(turn: Turn, frame: Frame, task: TryTask) -> None:
    policy = task.catch.retry
    due_at_ms = None
    if policy is not None and policy.limit_attempt_duration is not None:
        scope = scope_of(turn, frame)
        try:
            limit_ms = scope.duration_ms(policy.limit_attempt_duration, frame.input)
        except WorkflowFault as fault:
            turn.fault(frame, fault.fault)
            return
        due_at_ms = turn.env.now_ms + limit_ms
    turn.record(e.TaskResumed(frame=frame.id, attempt=frame.attempt, due_at_ms=due_at_ms))
    turn.look_at(frame.id)


def _handle(turn: Turn, frame: Frame, task: TryTask, error: Fault) -> None:
    """Catch an error of the block: run it again, run the catch block, pass it by, or on."""
    catch = task.catch
    scope = scope_of(turn, frame)
    scope.local = {catch.variable: error.as_json()}
    try:
        if not _catches(scope, task, error, frame.input):
            turn.fault(frame, error)
            return
        if catch.retry is not None:
            due_ms = retry_due_ms(scope, catch.retry, frame, error)
            if due_ms is not None:
                turn.record(
                    e.TaskRetried(
                        frame=frame.id, attempt=frame.attempt + 1, due_at_ms=due_ms, error=error
                    )
                )
                turn.look_at(frame.id)
                return
            if catch.block is None:
                turn.fault(frame, error)
                return
    except WorkflowFault as fault:
        turn.fault(frame, fault.fault)
        return
    if catch.block is None:
        complete(turn, frame, frame.input)
        return
    turn.record(e.ErrorCaught(frame=frame.id, error=error, variable=catch.variable))
    turn.look_at(frame.id)


def _catches(scope: Scope, task: TryTask, error: Fault, data: JSON) -> bool:
    catch = task.catch
    if catch.errors is not None and not matches(catch.errors, error):
        return False
    if catch.when is not None and not scope.holds(catch.when, data):
        return False
    return catch.except_when is None or not scope.holds(catch.except_when, data)


def matches(wanted: ErrorFilter, error: Fault) -> bool:
    """Return whether an error has every member that a filter names."""
    if wanted.type is not None and _type_name(wanted.type) != _type_name(error.type):
        return False
    return all(
        expected is None or expected == found
        for expected, found in (
            (wanted.status, error.status),
            (wanted.instance, error.instance),
            (wanted.title, error.title),
            (wanted.detail, error.detail),
        )
    )


def _type_name(uri: str) -> str:
    """Return what identifies an error type.

    The standard's own documents and kit spell its types with different paths; the last
    segment is what they agree on.
    """
    if uri.startswith(STANDARD_AUTHORITY):
        return STANDARD_AUTHORITY + uri.rsplit("/", 1)[-1]
    return uri


def _at(error: Fault, reference: str) -> Fault:
    return Fault(
        type=error.type,
        status=error.status,
        title=error.title,
        detail=error.detail,
        instance=reference,
    )


Advance = Callable[[Turn, Frame], End | Fault | None]

ADVANCE: dict[str, Advance] = {
    "root": _advance_root,
    "do": _advance_do,
    "for": _advance_for,
    "fork": _advance_fork,
    "try": _advance_try,
    "wait": finish_wait,
    "listen": finish_listen,
    "run": finish_child,
}
