"""How data gets into and out of tasks: schemas, transformations, the `$` arguments.

Source: Serverless Workflow DSL 1.0.3, "Data Flow" and "Runtime expression arguments".
Everything here may raise `WorkflowFault`; whoever calls turns it into an event.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

import msgspec

from orchx.domain import faults
from orchx.domain.document import Duration, ForkTask, Schema, Task
from orchx.domain.document_durations import MAX_DURATION_MS, MS_PER_UNIT, iso8601_ms
from orchx.domain.evolve import branch_of
from orchx.domain.expression_plans import PathPlan
from orchx.domain.expressions import Expression, Template
from orchx.domain.faults import WorkflowFault
from orchx.domain.json_values import JSON
from orchx.domain.state import ROOT, Frame
from orchx.domain.turn import Turn
from orchx.domain.value_limits import checked

UNSET: Final = msgspec.UNSET
_WRAPPING: Final = ("task", "workflow", "after")  # arguments that are larger than the data


class Scope:
    """The `$` arguments for the expressions of one task (or, without one, the workflow)."""

    __slots__ = (
        "input",
        "local",
        "output",
        "parent",
        "raw",
        "raw_output",
        "started_at_ms",
        "task",
        "turn",
    )

    def __init__(
        self, turn: Turn, parent: Frame, task: Task | None = None, raw: JSON = None
    ) -> None:
        self.turn = turn
        self.parent = parent
        self.task = task
        self.raw = raw
        self.input: JSON = UNSET
        self.output: JSON = UNSET
        self.raw_output: JSON = UNSET
        self.started_at_ms = turn.env.now_ms
        self.local: dict[str, JSON] = {}

    def evaluate(self, expression: Expression, data: JSON) -> JSON:
        """Evaluate an expression on `data`, with the arguments that it names."""
        if not expression.variables:
            return self.turn.env.evaluate(expression, data, {})
        variables: dict[str, JSON] = {}
        for name in expression.variables:
            value = self._argument(name)
            if value is not UNSET:
                variables[name] = value
        return self.turn.env.evaluate(expression, data, variables)

    def fill(self, template: Template, data: JSON) -> JSON:
        """Return a template's value on `data`."""
        if template.expression is None:
            return template.constant
        return self.value(template.expression, data)

    def value(self, expression: Expression, data: JSON) -> JSON:
        """Return the value of an expression, to be kept: it is within the limits.

        A path leads to a part of something that has been checked.
        """
        found = self.evaluate(expression, data)
        plan = expression.plan
        if found is data or (type(plan) is PathPlan and plan.variable not in _WRAPPING):
            return found
        return checked(found)

    def holds(self, expression: Expression, data: JSON) -> bool:
        """Return whether a condition holds: anything but false and null, as in jq."""
        value = self.evaluate(expression, data)
        return value is not None and value is not False

    def duration_ms(self, duration: Duration, data: JSON) -> int:
        """Return a duration in milliseconds, evaluating it where it is an expression."""
        if duration.expression is None:
            return duration.constant_ms or 0
        value = self.evaluate(duration.expression, data)
        try:
            if isinstance(value, str):
                return iso8601_ms(value)
            if isinstance(value, dict) and value:
                total = sum(MS_PER_UNIT[unit] * amount for unit, amount in value.items())
                if 0 <= total <= MAX_DURATION_MS:
                    return int(total)
        except (ValueError, KeyError, TypeError, OverflowError) as error:
            raise _not_a_duration(duration.expression, repr(error)) from error
        raise _not_a_duration(duration.expression, f"it gave {str(value)[:80]}")

    def _argument(self, name: str) -> JSON:
        state = self.turn.state
        if name == "context":
            return state.context
        if name == "input":
            return self.input
        if name == "output":
            return self.output
        if name == "task":
            return self._task_descriptor()
        if name == "workflow":
            return {
                "id": state.workflow_id,
                "definition": self.turn.plan.source,
                "input": state.input,
                "startedAt": moment(state.started_at_ms),
            }
        if name == "runtime":
            return self.turn.env.runtime
        return self._scoped(name)

    def _scoped(self, name: str) -> JSON:
        """Return a variable set by an enclosing `for`, `catch` or `fork`, the nearest first."""
        if name in self.local:
            return self.local[name]
        frame = self.parent
        while True:
            if name in frame.variables:
                return frame.variables[name]
            if name == "after" and frame.kind == "fork" and self.task is not None:
                return outputs_of_branches(self.turn, frame, self.task)
            if frame.id == ROOT:
                return UNSET
            frame = self.turn.state.frames[frame.parent]

    def _task_descriptor(self) -> JSON:
        if self.task is None:
            return UNSET
        described = {
            "name": self.task.name,
            "reference": self.task.reference,
            "definition": self.task.definition,
            "input": self.raw,
            "startedAt": moment(self.started_at_ms),
        }
        if self.raw_output is not UNSET:
            described["output"] = self.raw_output
        return described


def outputs_of_branches(turn: Turn, fork: Frame, task: Task) -> dict[str, JSON]:
    """Return what the branches gave that the branch of `task` comes after: its `$after`.

    Others may have ended too, but whether they have is a matter of luck.
    """
    plan = turn.plan.task(fork.reference, ForkTask)
    before: set[int] = set()
    further = set(plan.after[branch_of(fork.reference, task.reference)])
    while further:
        before |= further
        further = {index for branch in further for index in plan.after[branch]} - before
    branches = plan.branches.tasks
    return {branches[index].name: fork.results[index] for index in sorted(before)}


def moment(at_ms: int) -> dict[str, JSON]:
    """Return a time as the DSL's dateTimeDescriptor."""
    iso = datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(timespec="milliseconds")
    return {
        "iso8601": iso.replace("+00:00", "Z"),
        "epoch": {"seconds": at_ms // 1000, "milliseconds": at_ms},
    }


def check(turn: Turn, schema: Schema | None, data: JSON, what: str) -> None:
    """Raise a validation fault if `data` breaks a schema; `what` names the data."""
    if schema is None:
        return
    problem = turn.env.validate(schema, data)
    if problem is not None:
        raise WorkflowFault(
            faults.standard(faults.VALIDATION, f"{what} breaks its schema", detail=problem)
        )


def task_input(scope: Scope, task: Task) -> JSON:
    """Check and transform a task's raw input; remembers it as `$input`."""
    data = scope.raw
    if task.data.input_schema is not None:
        check(scope.turn, task.data.input_schema, data, "the task's input")
    if task.data.input_from is not None:
        data = scope.fill(task.data.input_from, data)
    scope.input = data
    return data


def task_output(scope: Scope, task: Task, raw_output: JSON) -> tuple[JSON, JSON]:
    """Transform and check a task's output; returns it and the new context (or UNSET)."""
    flow = task.data
    output = raw_output
    if flow.output_as is not None:
        scope.raw_output = raw_output
        output = scope.fill(flow.output_as, raw_output)
    if flow.output_schema is not None:
        check(scope.turn, flow.output_schema, output, "the task's output")
    context: JSON = UNSET
    if flow.export_as is not None:
        scope.raw_output, scope.output = raw_output, output
        context = scope.fill(flow.export_as, output)
    if flow.export_schema is not None:
        exported = scope.turn.state.context if context is UNSET else context
        check(scope.turn, flow.export_schema, exported, "the exported context")
    return output, context


def _not_a_duration(expression: Expression, why: str) -> WorkflowFault:
    return WorkflowFault(
        faults.standard(faults.EXPRESSION, "not a duration", detail=f"{expression.source}: {why}")
    )
