"""call and run: what a pool is asked, who is chosen, what a child gets and gives."""

from __future__ import annotations

import msgspec
import pytest

from orchx.domain import messages as m
from orchx.domain.decisions import Choice, Question
from orchx.domain.events import (
    DecisionMade,
    Request,
    TaskCompleted,
    TaskFaulted,
    TaskRetried,
)
from orchx.domain.faults import COMMUNICATION, standard
from orchx.domain.state import CERTAIN_WEIGHT
from orchx.testing.rehearsal import rehearse
from tests.unit.domain.stage import WORKFLOW_ID, Stage, World, document, kind_of, unavailable


def test_a_function_is_called_with_evaluated_arguments() -> None:
    stage = Stage(
        "do: [{add: {call: math.add, with: {a: '${ .a }', b: '${ $workflow.input.a * 2 }'}}}]",
        {"a": 1},
        request=Request(priority=2),
    )
    (request,) = stage.requests()

    assert request.call.function == "math.add"
    assert request.call.target == "function"
    assert request.call.arguments == {"a": 1, "b": 2}
    assert (request.reference, request.attempt, request.priority) == ("/do/0/add", 1, 2)
    assert request.execution == f"{WORKFLOW_ID}/{request.frame}/{request.key}"


def test_a_call_without_arguments_has_none_of_the_callers_data() -> None:
    assert Stage("do: [{a: {call: f}}]", {"secret": 1}).requests()[0].call.arguments == {}


def test_http_gets_the_inputs_scalars_for_its_uri_template() -> None:
    stage = Stage(
        "do: [{get: {call: http, with: {method: get, endpoint: 'https://x/{id}/${ .n }'}}}]",
        {"id": 3, "n": "four", "deep": {"no": 1}},
    )
    call = stage.requests()[0].call

    assert call.target == "http"
    assert call.arguments["endpoint"] == "https://x/{id}/four"
    assert call.arguments["templateVariables"] == {"id": 3, "n": "four"}


def test_openapi_is_a_target_of_its_own() -> None:
    stage = Stage(
        """
        do:
          - get:
              call: openapi
              with:
                document: {endpoint: 'https://x/openapi.json'}
                operationId: getPet
                parameters: {id: "${ .id }"}
        """,
        {"id": 1},
    )
    call = stage.requests()[0].call

    assert (call.target, call.function) == ("openapi", "openapi")
    assert call.arguments["parameters"] == {"id": 1}


def test_a_function_that_nobody_can_do_is_a_configuration_error() -> None:
    outcome = rehearse(document("do: [{a: {call: it.unknown}}]"))

    assert (kind_of(outcome.error), outcome.calls) == ("configuration", [])


def test_an_outcome_goes_through_output_and_says_who_did_it() -> None:
    stage = Stage(
        "do: [{a: {call: cap, output: {as: .id}}}]", services={"cap": ["only"]}
    )  # fmt: skip
    assert stage.events(DecisionMade) == []  # a choice among one is none
    stage.answer("a", {"id": 5})

    assert stage.state.output == 5
    assert stage.events(TaskCompleted)[0].service == "only"


RETRIED = """
    do:
      - careful:
          try: [{work: {call: cap}}]
          catch: {retry: {limit: {attempt: {count: 5}}}}
"""


def test_a_choice_is_recorded_with_what_it_was_made_from() -> None:
    stage = Stage("do: [{a: {call: cap}}]", services={"cap": ["one", "two"]})
    (decision,) = stage.events(DecisionMade)

    assert (decision.question, decision.chosen) == ("cap", "one")
    assert decision.alternatives == ["one", "two"]
    assert sum(decision.propensities) == 1
    assert decision.frame == stage.requests()[0].frame
    assert stage.requests()[0].call.service == "one"


def test_a_service_that_may_have_acted_is_asked_again_before_another() -> None:
    stage = Stage(RETRIED, services={"cap": ["one", "two"]})
    for _ in range(4):
        stage.answer("work", error=standard(COMMUNICATION, "connection lost", status=502))
        stage.wait(0)

    assert [r.call.service for r in stage.requests()] == ["one", "one", "one", "two", "two"]


@pytest.mark.parametrize(("services", "waited_ms"), [(["one", "two"], 0), (["one"], 9_000)])
def test_retry_after_holds_only_those_who_have_nobody_else_to_ask(
    services: list[str], waited_ms: int
) -> None:
    stage = Stage(RETRIED, services={"cap": services})
    busy = standard(COMMUNICATION, "busy", status=503)
    stage.answer("work", error=msgspec.structs.replace(busy, retry_after_ms=9_000))
    (retried,) = stage.events(TaskRetried)
    assert retried.due_at_ms - stage.world.now_ms == waited_ms


def test_after_a_failure_another_service_is_chosen_under_the_same_key() -> None:
    stage = Stage(RETRIED, services={"cap": ["one", "two"]})
    for _ in range(3):
        stage.answer("work", error=unavailable())
        stage.wait(0)

    assert [r.call.service for r in stage.requests()] == ["one", "two", "one", "two"]
    assert len({r.key for r in stage.requests()}) == 1
    (counted,) = stage.state.failures.values()
    assert counted == {"one": 2 * CERTAIN_WEIGHT, "two": CERTAIN_WEIGHT}
    assert [event.service for event in stage.events(TaskFaulted)] == ["one", "two", "one"]


@pytest.mark.parametrize("succeeds", [True, False])
def test_failures_are_forgotten_with_the_call_or_the_try_that_they_belong_to(
    succeeds: bool,
) -> None:
    body = RETRIED.replace("count: 5", "count: 1") + "      - next: {call: other}"
    body = body.replace("catch: {", "catch: {do: [{a: {set: {n: 1}}}], ")
    stage = Stage(body, services={"cap": ["one", "two"]})
    stage.answer("work", error=unavailable())
    stage.wait(0)
    assert stage.state.failures
    stage.answer("work", error=None if succeeds else unavailable())

    assert stage.calls() == ["next"]
    assert stage.state.failures == {}


def test_the_policy_is_asked_with_features_and_failures() -> None:
    asked: list[Question] = []

    class Curious(World):
        def choose(self, question: Question) -> Choice:
            asked.append(question)
            return super().choose(question)

    world = Curious({}, {"cap": ["one", "two"]})
    stage = Stage(RETRIED, world=world, request=Request(tenant="hr"))
    stage.answer("work", error=unavailable())
    stage.wait(0)

    question = asked[-1]
    assert question.features == {"tenant": "hr", "priority": 5}
    assert question.failures == {"one": 1}


# --- run: workflow -------------------------------------------------------------------------

CHILD = """
    do:
      - child:
          run:
            workflow: {namespace: it, name: other, version: '1.2.3', input: {n: "${ .n }"}}
            await: %s
          output: {as: "%s"}
"""


def test_an_awaited_child_gives_its_output() -> None:
    request = Request(tenant="hr", priority=1, deadline_ms=10**15)
    stage = Stage(CHILD % ("true", ".got"), {"n": 1}, request=request)
    (start,) = stage.of(m.StartChild)

    assert (start.child.namespace, start.child.name, start.child.version) == (
        "it",
        "other",
        "1.2.3",
    )
    assert start.child.input == {"n": 1}
    assert (start.request.tenant, start.request.priority) == ("hr", 1)
    assert start.request.deadline_ms == 10**15
    assert start.request.parent.workflow_id == WORKFLOW_ID
    assert start.request.correlation_id == WORKFLOW_ID

    stage.finish_child("child", {"got": "this"})
    assert stage.state.output == "this"


def test_a_child_without_input_gets_the_tasks() -> None:
    body = "do: [{c: {input: {from: .in}, run: {workflow: {namespace: a, name: b}}}}]"
    (start,) = Stage(body, {"in": 5}).of(m.StartChild)

    assert (start.child.input, start.child.version) == (5, "latest")


def test_a_detached_child_is_started_and_the_input_goes_on() -> None:
    stage = Stage(CHILD % ("false", ". + {later: true}"), {"n": 1})
    (start,) = stage.of(m.StartChild)

    assert (stage.state.status, stage.state.output) == ("completed", {"n": 1, "later": True})
    assert start.request.parent is None


def test_the_childs_error_is_the_tasks_at_the_tasks_place() -> None:
    stage = Stage(CHILD % ("true", "."))
    stage.finish_child(
        "child", error=standard("https://serverlessworkflow.io/spec/1.0.0/errors/timeout", "Late")
    )

    error = stage.state.error
    assert error is not None
    assert (kind_of(error), error.title, error.instance) == ("timeout", "Late", "/do/0/child")


def test_a_child_that_is_tried_again_is_another_child() -> None:
    stage = Stage("""
        do:
          - careful:
              try: [{child: {run: {workflow: {namespace: a, name: b}}}}]
              catch: {retry: {limit: {attempt: {count: 1}}}}
    """)
    stage.finish_child("child", error=unavailable())
    stage.wait(0)
    first, second = stage.of(m.StartChild)
    assert first.child.workflow_id != second.child.workflow_id
    stage.finish_child("child", "done")

    assert stage.state.output == "done"


def test_news_of_a_child_that_nobody_awaits_any_more_are_only_remembered() -> None:
    stage = Stage("""
        do:
          - careful:
              try: [{c: {run: {workflow: {namespace: a, name: b}}, timeout: {after: PT1S}}}]
              catch: {}
          - next: {call: work}
    """)
    (frame,) = stage.state.awaiting_children()
    stage.wait(1_000)
    late = m.FinishChild(
        id="late", workflow_id=WORKFLOW_ID, created_at_ms=0, frame=frame.id, output=1
    )
    stage.take(late)

    assert stage.calls() == ["next"]
    assert "late" in stage.state.commands
