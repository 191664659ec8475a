"""How a call begins: who can do it, which of them is chosen, and with what arguments."""

from __future__ import annotations

import msgspec

from orchx.domain import document as d
from orchx.domain import events as e
from orchx.domain import faults
from orchx.domain.data_flow import Scope
from orchx.domain.decisions import Question
from orchx.domain.environment import CallTarget
from orchx.domain.evolve import iteration_of_child
from orchx.domain.faults import WorkflowFault
from orchx.domain.json_values import JSON
from orchx.domain.state import CERTAIN_WEIGHT, call_site

PROTOCOLS = ("http", "openapi")


def begin_call(scope: Scope, task: d.CallTask, data: JSON) -> None:
    """Evaluate the arguments, choose a service where there is a choice, and start the call."""
    turn = scope.turn
    arguments = scope.fill(task.arguments, data)
    timeout_ms = None
    timeout_at_ms = None
    if task.timeout is not None:
        timeout_ms = scope.duration_ms(task.timeout, data)
        timeout_at_ms = turn.env.now_ms + timeout_ms
    frame_id = turn.state.next_frame
    iteration = iteration_of_child(scope.parent, task.reference)
    if task.function in PROTOCOLS:
        arguments = _with_template_variables(arguments, data)
        call = e.CallDetails(
            function=task.function,
            target="http" if task.function == "http" else "openapi",
            arguments=arguments,
            timeout_ms=timeout_ms,
        )
    else:
        target = turn.env.target(task.function)
        if target is None:
            detail = f"no function, Python task or service provides {task.function!r}"
            raise WorkflowFault(
                faults.standard(faults.CONFIGURATION, "Unknown function", detail=detail)
            )
        service = None
        if target.kind == "service":
            service = _choose(scope, task, target, frame_id, iteration)
        call = e.CallDetails(
            function=task.function,
            target=target.kind,
            arguments=arguments,
            pool=target.pool,
            service=service,
            timeout_ms=timeout_ms if timeout_ms is not None else target.timeout_ms,
        )
    turn.record(
        e.TaskStarted(
            frame=frame_id,
            parent=scope.parent.id,
            reference=task.reference,
            kind="call",
            iteration=iteration,
            input=msgspec.UNSET if data is scope.raw else data,
            timeout_at_ms=timeout_at_ms,
            call=call,
        )
    )
    turn.execute(turn.state.frames[frame_id])


def _choose(
    scope: Scope, task: d.CallTask, target: CallTarget, frame_id: int, iteration: str
) -> str:
    """Have the policy choose among the services; a choice among one is none."""
    if len(target.services) == 1:
        return target.services[0]
    turn = scope.turn
    state = turn.state
    weights = state.failures.get(call_site(task.reference, iteration), {})
    question = Question(
        name=task.function,
        alternatives=target.services,
        features={"tenant": state.request.tenant, "priority": state.request.priority},
        failures={name: weight // CERTAIN_WEIGHT for name, weight in weights.items()},
    )
    choice = turn.env.choose(question)
    turn.record(
        e.DecisionMade(
            frame=frame_id,
            question=task.function,
            chosen=choice.chosen,
            alternatives=list(choice.alternatives),
            propensities=list(choice.propensities),
            policy=choice.policy,
            features=dict(choice.features),
        )
    )
    return choice.chosen


def _with_template_variables(arguments: JSON, data: JSON) -> JSON:
    """Add what fills `{name}` in an endpoint: the top-level members of the input."""
    if not isinstance(arguments, dict) or not isinstance(data, dict):
        return arguments
    endpoint = arguments.get("endpoint")
    uri = endpoint.get("uri") if isinstance(endpoint, dict) else endpoint
    if not isinstance(uri, str) or "{" not in uri:
        return arguments
    scalars = {key: value for key, value in data.items() if not isinstance(value, dict | list)}
    return {**arguments, "templateVariables": scalars}
