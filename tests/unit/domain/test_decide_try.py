"""try, catch and retry: what is caught, what runs again and when, what happens in the end."""

from __future__ import annotations

import pytest

from orchx.domain.events import TaskResumed, TaskRetried
from orchx.domain.faults import Fault
from orchx.domain.json_values import JSON
from orchx.testing.rehearsal import rehearse
from tests.unit.domain.stage import Stage, document, failing, kind_of, unavailable

CATCH = """
    do:
      - careful:
          input: {from: .in}
          try:
            - work: {call: work}
          catch: %s
"""


def catching(catch: str, fault: Fault | None = None, input_: JSON = None) -> tuple[str, JSON]:
    functions = {"work": failing(fault or unavailable())}
    outcome = rehearse(document(CATCH % catch), {"in": input_}, functions=functions)
    return outcome.status, outcome.output


def test_a_block_without_an_error_gives_its_output() -> None:
    outcome = rehearse(document(CATCH % "{}"), {"in": 1}, functions={"work": lambda _: "done"})

    assert outcome.output == "done"


def test_an_error_that_is_caught_without_more_is_passed_by_with_the_input() -> None:
    assert catching("{}", input_={"kept": 1}) == ("completed", {"kept": 1})


FAULT = Fault(
    type="https://serverlessworkflow.io/spec/1.0.0/errors/communication",
    status=503,
    title="Busy",
    detail="later",
    instance="/somewhere",
)


@pytest.mark.parametrize(
    ("wanted", "caught"),
    [
        ("{status: 503}", True),
        ("{status: 500}", False),
        ("{title: Busy, detail: later, instance: /somewhere}", True),
        ("{title: Busy, detail: sooner}", False),
        ("{details: later}", True),
        ("{instance: /elsewhere}", False),
        ("{type: 'https://serverlessworkflow.io/spec/1.0.0/errors/communication'}", True),
        # the kit and the reference spell the standard's types in other ways
        ("{type: 'https://serverlessworkflow.io/dsl/errors/types/communication'}", True),
        ("{type: 'https://serverlessworkflow.io/spec/1.0.0/errors/timeout'}", False),
        ("{type: 'https://elsewhere.example/errors/communication'}", False),
    ],
)
def test_errors_are_caught_by_the_members_that_the_filter_names(wanted: str, caught: bool) -> None:
    status, _ = catching(f"{{errors: {{with: {wanted}}}}}", FAULT)

    assert status == ("completed" if caught else "faulted")


@pytest.mark.parametrize(
    ("conditions", "caught"),
    [
        ("when: $error.status >= 500", True),
        ("when: $error.status < 500", False),
        ("exceptWhen: $error.status >= 500", False),
        ("exceptWhen: $error.status < 500", True),
        ("when: .urgent, exceptWhen: .hopeless", True),
        ("when: $problem.status == 503, as: problem", True),
    ],
)
def test_conditions_see_the_error_and_the_input(conditions: str, caught: bool) -> None:
    status, _ = catching(f"{{{conditions}}}", FAULT, {"urgent": True, "hopeless": False})

    assert status == ("completed" if caught else "faulted")


def test_a_condition_that_fails_ends_the_try_with_that_error() -> None:
    outcome = rehearse(
        document(CATCH % "{when: '.a.b.c'}"),
        {"in": {"a": 1}},
        functions={"work": failing(unavailable())},
    )

    assert outcome.error is not None
    assert (kind_of(outcome.error), outcome.error.instance) == ("expression", "/do/0/careful")


def test_the_catch_block_has_the_error_by_its_name_and_the_tasks_input() -> None:
    catch = "{as: oops, do: [{note: {set: {error: '${ $oops }', input: '${ . }'}}}]}"
    status, output = catching(catch, FAULT, {"n": 1})

    assert status == "completed"
    assert output == {"error": FAULT.as_json(), "input": {"n": 1}}


def test_the_error_is_not_known_after_the_catch() -> None:
    body = (
        CATCH % "{do: [{a: {set: {n: 1}}}]}"
    ) + "      - after: {set: {x: '${ $error.status }'}}"
    outcome = rehearse(document(body), {"in": 1}, functions={"work": failing(unavailable())})

    assert kind_of(outcome.error) == "expression"


def test_an_error_in_the_catch_block_goes_up() -> None:
    outcome = rehearse(
        document("""
        do:
          - outer:
              try:
                - inner:
                    try: [{a: {raise: {error: {type: 'https://x/1', status: 400}}}}]
                    catch: {do: [{b: {raise: {error: {type: 'https://x/2', status: 400}}}}]}
              catch: {do: [{note: {set: {type: "${ $error.type }", at: "${ $error.instance }"}}}]}
    """)
    )

    assert outcome.output == {
        "type": "https://x/2",
        "at": "/do/0/outer/try/0/inner/catch/do/0/b",
    }


def test_an_error_deep_inside_cancels_what_is_around_it() -> None:
    stage = Stage("""
        do:
          - careful:
              try:
                - both: {fork: {branches: [{a: {do: [{x: {call: work}}]}}, {b: {call: work}}]}}
              catch: {}
          - next: {call: work}
    """)
    stage.answer("x", error=unavailable())

    assert stage.calls() == ["next"]


# --- retry ---------------------------------------------------------------------------------

RETRY = """
    do:
      - careful:
          try:
            - prepare: {set: {n: "${ (.n // 0) + 1 }"}}
            - work: {call: work, with: {n: "${ .n }"}}
          catch:
            errors: {with: {status: 503}}
            retry: {delay: {seconds: 1}, limit: {attempt: {count: 2}}}
"""


def test_a_retry_runs_the_block_anew_with_the_same_keys_in_new_executions() -> None:
    stage = Stage(RETRY)
    stage.answer("work", error=unavailable())
    assert stage.calls() == []
    stage.wait(999)
    assert stage.calls() == []
    stage.wait(1)
    stage.answer("work", "done")

    first, second = stage.requests()
    assert first.key == second.key
    assert first.execution != second.execution
    assert (first.attempt, second.attempt) == (1, 2)
    assert second.call.arguments == {"n": 1}  # from the input again, not from where it failed
    assert stage.state.output == "done"


def test_the_count_is_of_retries_and_then_the_error_is_the_tasks() -> None:
    stage = Stage(RETRY)
    for _ in range(2):
        stage.answer("work", error=unavailable())
        stage.wait(1_000)
    stage.answer("work", error=unavailable())

    assert len(stage.requests()) == 3
    assert stage.state.status == "faulted"
    assert stage.state.error is not None
    assert stage.state.error.instance == "/do/0/careful/try/1/work"
    assert [event.attempt for event in stage.events(TaskRetried)] == [2, 3]


def test_what_is_exhausted_is_handled_by_the_catch_block_if_there_is_one() -> None:
    body = RETRY + "            do: [{handle: {set: {gave: '${ $error.status }'}}}]"
    outcome = rehearse(document(body), functions={"work": failing(unavailable())})

    assert (outcome.status, outcome.output) == ("completed", {"gave": 503})
    assert outcome.elapsed_ms == 2_000


def test_what_is_not_caught_is_not_retried() -> None:
    stage = Stage(RETRY)
    stage.answer("work", error=unavailable(500))

    assert stage.state.status == "faulted"
    assert stage.events(TaskRetried) == []


def test_a_retry_in_each_iteration_has_a_key_for_each_iteration() -> None:
    stage = Stage("""
        do:
          - loop:
              for: {in: '[1, 2]'}
              do:
                - careful:
                    try: [{work: {call: work}}]
                    catch: {retry: {limit: {attempt: {count: 1}}}}
    """)
    for _ in range(2):
        stage.answer("work", error=unavailable())
        stage.wait(0)
        stage.answer("work")

    keys = [request.key for request in stage.requests()]
    assert keys[0] == keys[1] != keys[2] == keys[3]
    assert stage.state.status == "completed"


def test_an_outer_retry_repeats_inner_retries_under_the_same_keys() -> None:
    stage = Stage("""
        use: {retries: {once: {limit: {attempt: {count: 1}}}}}
        do:
          - outer:
              try:
                - inner:
                    try: [{work: {call: work}}]
                    catch: {retry: once}
              catch: {retry: once}
    """)
    for _ in range(4):
        stage.answer("work", error=unavailable())
        stage.wait(0)

    assert stage.state.status == "faulted"
    assert len({request.key for request in stage.requests()}) == 1
    assert [request.attempt for request in stage.requests()] == [1, 2, 1, 2]


def test_a_call_of_the_catch_block_is_made_for_the_first_time() -> None:
    stage = Stage("""
        do:
          - careful:
              try: [{work: {call: work}}]
              catch: {retry: {limit: {attempt: {count: 1}}}, do: [{mend: {call: work}}]}
    """)
    for _ in range(2):
        stage.answer("work", error=unavailable())

    assert [request.attempt for request in stage.requests()] == [1, 2, 1]


def test_one_attempt_may_be_limited_in_time_and_then_runs_again() -> None:
    stage = Stage("""
        do:
          - careful:
              try: [{a: {call: work}}, {b: {call: work}}]
              catch:
                retry: {limit: {attempt: {count: 1, duration: {seconds: 10}}}}
    """)
    stage.wait(9_000)
    stage.answer("a")
    late = stage.calling("b")[0]
    stage.wait(1_000)
    assert stage.calls() == ["a"]
    assert stage.outcome(late, "too late").events == []
    assert stage.events(TaskResumed)[0].due_at_ms == stage.world.now_ms + 10_000
    stage.wait(10_000)

    assert (stage.state.status, kind_of(stage.state.error)) == ("faulted", "timeout")


def test_the_limit_of_one_attempt_is_evaluated_for_each() -> None:
    stage = Stage(
        """
        do:
          - careful:
              try:
                - change: {set: {n: 1}, export: {as: '{limit: "whenever"}'}}
                - work: {call: work}
              catch: {retry: {limit: {attempt: {count: 1, duration: "${ $context.limit }"}}}}
        """,
        {"limit": "PT9S"},
    )
    assert stage.state.next_due_ms() == stage.world.now_ms + 9_000
    stage.answer("work", error=unavailable())

    assert kind_of(stage.state.error) == "expression"


def test_waiting_for_a_retry_ends_with_the_tasks_timeout() -> None:
    stage = Stage("""
        do:
          - careful:
              timeout: {after: {seconds: 5}}
              try: [{a: {call: work}}]
              catch: {retry: {delay: {seconds: 60}}}
    """)
    stage.answer("a", error=unavailable())
    stage.wait(5_000)

    assert kind_of(stage.state.error) == "timeout"
