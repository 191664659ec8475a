"""do, set, switch, if, for, raise and the flow directives."""

from __future__ import annotations

import pytest

from orchx.domain.events import IterationStarted, TaskSkipped, TaskStarted, WorkflowFaulted
from orchx.domain.json_values import JSON
from orchx.testing.rehearsal import Outcome, rehearse
from tests.unit.domain.stage import Stage, document, kind_of


def run(body: str, input_: JSON = None) -> Outcome:
    return rehearse(document(body), input_)


def test_what_a_task_gives_is_what_the_next_one_gets() -> None:
    outcome = run("""
        do:
          - first: {set: {n: 1}}
          - second: {set: {n: "${ .n + 1 }", was: "${ .n }"}}
    """)

    assert (outcome.status, outcome.output) == ("completed", {"n": 2, "was": 1})


def test_set_by_expression_replaces_the_data_by_what_it_gives() -> None:
    assert run("do: [{a: {set: '${ .list | length }'}}]", {"list": [1, 2]}).output == 2


def test_a_nested_block_gets_its_own_input_and_gives_its_last_output() -> None:
    outcome = run(
        """
        do:
          - outer:
              input: {from: .inside}
              do:
                - a: {set: {n: "${ .n + 1 }"}}
                - b: {set: {n: "${ .n * 10 }"}}
              output: {as: '${ {result: .n, started: $input.n} }'}
        """,
        {"inside": {"n": 1}},
    )

    assert outcome.output == {"result": 20, "started": 1}


def test_if_skips_a_task_and_its_directive() -> None:
    outcome = run(
        """
        do:
          - skipped: {if: .no, set: {n: 1}, then: end}
          - last: {set: {seen: "${ . }"}}
        """,
        {"no": False},
    )

    assert outcome.output == {"seen": {"no": False}}
    assert [e.reference for e in outcome.events if isinstance(e, TaskSkipped)] == ["/do/0/skipped"]


@pytest.mark.parametrize(("value", "holds"), [(None, False), (False, False), (0, True), ("", True)])
def test_a_condition_holds_for_anything_but_false_and_null(value: JSON, holds: bool) -> None:
    outcome = run("do: [{a: {if: .x, set: {done: true}}}]", {"x": value})

    assert (outcome.output == {"done": True}) is holds


def test_input_is_not_known_to_if_which_comes_before_it() -> None:
    outcome = run("do: [{a: {if: $input.x, set: {n: 1}}}]")

    assert (outcome.status, kind_of(outcome.error)) == ("faulted", "expression")
    assert outcome.error is not None
    assert outcome.error.instance == "/do/0/a"


SWITCH = """
    do:
      - choose:
          switch:
            - other: {then: fallback}
            - low: {when: .n < 10, then: small}
            - also: {when: .n < 5, then: fallback}
          then: end
      - fallback: {set: {chose: fallback}, then: end}
      - small: {set: {chose: small}, then: end}
"""


@pytest.mark.parametrize(("n", "chosen"), [(1, "small"), (50, "fallback")])
def test_switch_takes_the_first_case_that_holds_else_the_default(n: int, chosen: str) -> None:
    assert run(SWITCH, {"n": n}).output == {"chose": chosen}


def test_a_switch_without_a_match_follows_its_own_then_and_passes_its_input_on() -> None:
    body = """
        do:
          - choose:
              input: {from: .wanted}
              switch: [{never: {when: .no, then: end}}]
              then: last
          - between: {set: {lost: true}}
          - last: {set: {got: "${ . }"}}
    """

    assert run(body, {"wanted": {"a": 1}}).output == {"got": {"a": 1}}


def test_raise_ends_the_workflow_with_the_error_and_says_where() -> None:
    outcome = run(
        """
        use: {errors: {broken: {type: 'https://x/broken', status: 418, title: Broken}}}
        do:
          - outer:
              do:
                - fail:
                    raise:
                      error:
                        type: https://x/failed
                        status: ${ .status }
                        title: Failed
                        detail: ${ "because of \\(.why)" }
        """,
        {"why": "rain", "status": 409},
    )

    assert outcome.status == "faulted"
    assert outcome.error is not None
    assert outcome.error.as_json() == {
        "type": "https://x/failed",
        "status": 409,
        "title": "Failed",
        "detail": "because of rain",
        "instance": "/do/0/outer/do/0/fail",
    }
    assert isinstance(outcome.events[-1], WorkflowFaulted)


def test_a_reusable_error_and_an_instance_of_ones_own() -> None:
    outcome = run("""
        use:
          errors:
            broken: {type: 'https://x/broken', status: 418, title: Broken, instance: /elsewhere}
        do: [{fail: {raise: {error: broken}}}]
    """)

    assert outcome.error is not None
    assert (outcome.error.status, outcome.error.instance) == (418, "/elsewhere")


@pytest.mark.parametrize("status", ["1e300", "400.5", '"no"', "null", "true"])
def test_what_is_no_error_cannot_be_raised(status: str) -> None:
    outcome = run(
        f"do: [{{a: {{raise: {{error: {{type: 'https://x', status: '${{ {status} }}'}}}}}}}}]"
    )

    assert (outcome.status, kind_of(outcome.error)) == ("faulted", "configuration")


# --- flow directives -----------------------------------------------------------------------


def test_exit_leaves_the_block_and_end_the_workflow() -> None:
    body = """
        do:
          - block:
              do:
                - a: {set: {n: 1}, then: exit}
                - b: {set: {n: 2}}
          - after:
              do:
                - c: {set: {n: "${ .n + 10 }"}, then: end}
                - d: {set: {n: 0}}
              output: {as: {transformed: true}}
          - never: {set: {n: -1}}
    """
    outcome = run(body)

    assert (outcome.status, outcome.output) == ("completed", {"n": 11})


def test_exit_in_the_main_block_ends_the_workflow() -> None:
    outcome = run("do: [{a: {set: {n: 1}, then: exit}}, {b: {set: {n: 2}}}]")

    assert (outcome.status, outcome.output) == ("completed", {"n": 1})


@pytest.mark.parametrize(
    "inner",
    [
        "do: [{deep: {do: [{stop: {set: {n: 1}, then: end}}]}}]",
        "{for: {in: '[1, 2]'}, do: [{stop: {set: {n: 1}, then: end}}]}",
        "{fork: {branches: [{stop: {set: {n: 1}, then: end}}, {w: {wait: {days: 1}}}]}}",
        "{fork: {branches: [{stop: {set: {n: 1}, then: end}}, {b: {set: {n: 2}}}]}}",
        "{try: [{stop: {set: {n: 1}, then: end}}], catch: {}}",
        "{try: [{x: {raise: {error: {type: 'https://x', status: 400}}}}],"
        " catch: {do: [{stop: {set: {n: 1}, then: end}}]}}",
    ],
)
def test_end_ends_the_workflow_from_inside_anything(inner: str) -> None:
    inner = inner if inner.startswith("{") else f"{{{inner}}}"
    outcome = run(f"do: [{{a: {inner}}}, {{never: {{set: {{n: -1}}}}}}]")

    assert (outcome.status, outcome.output) == ("completed", {"n": 1})
    assert outcome.elapsed_ms == 0


def test_a_jump_backwards_is_a_new_iteration_with_new_keys() -> None:
    stage = Stage("""
        do:
          - again: {call: work}
          - more:
              switch: [{yes: {when: .n < 3, then: again}}]
    """)
    for n in (1, 2, 3):
        stage.answer("again", {"n": n})

    assert stage.state.status == "completed"
    assert [frame.iteration for frame in stage.events(TaskStarted)] == ["", "~1@3", "~2@3"]
    assert len({request.key for request in stage.requests()}) == 3


def test_revisits_of_an_outer_and_of_an_inner_block_do_not_share_keys() -> None:
    stage = Stage("""
        do:
          - outer:
              do:
                - inner: {do: [{work: {call: work}}]}
                - again: {switch: [{yes: {when: . == "inner", then: inner}}]}
          - anew: {switch: [{yes: {when: . == "outer", then: outer}}]}
    """)
    for next_step in ("inner", "outer", "inner", "done"):
        stage.answer("work", next_step)

    assert stage.state.status == "completed"
    assert len({request.key for request in stage.requests()}) == 4


# --- for -----------------------------------------------------------------------------------


def test_for_feeds_each_output_into_the_next_iteration() -> None:
    outcome = run(
        """
        do:
          - loop:
              for: {each: word, at: place, in: .words}
              do:
                - join:
                    set: {text: '${ "\\(.text // "")\\($place)\\($word)" }', words: "${ .words }"}
              output: {as: .text}
        """,
        {"words": ["a", "b", "c"]},
    )

    assert outcome.output == "0a1b2c"


def test_for_has_default_names_and_hides_those_of_outer_loops_inside() -> None:
    body = """
        do:
          - outer:
              for: {in: '[[1, 2], [3]]'}
              do:
                - inner:
                    for: {in: $item}
                    do: [{add: {set: {seen: '${ (.seen // []) + [[$item, $index]] }'}}}]
                - mark: {set: {seen: '${ .seen + [$index] }'}}
    """

    assert run(body).output == {"seen": [[1, 0], [2, 1], 0, [3, 0], 1]}


def test_for_goes_on_while_its_condition_holds_on_what_flows() -> None:
    body = """
        do:
          - loop:
              for: {each: n, in: '[1, 2, 3, 4]'}
              while: .sum < 3 and $n < 4 and $index < 4
              do: [{add: {set: {sum: "${ .sum + $n }"}}}]
    """
    outcome = run(body, {"sum": 0})

    assert outcome.output == {"sum": 3}
    assert len([e for e in outcome.events if isinstance(e, IterationStarted)]) == 2


@pytest.mark.parametrize("items", ["[]", "null", ".missing"])
def test_for_over_nothing_passes_its_input_on(items: str) -> None:
    body = f"do: [{{loop: {{for: {{in: '{items}'}}, do: [{{a: {{set: {{n: 1}}}}}}]}}}}]"

    assert run(body, {"kept": True}).output == {"kept": True}


@pytest.mark.parametrize("items", ["3", '"text"', "{}", "true"])
def test_for_over_what_is_no_array_is_an_expression_error(items: str) -> None:
    body = f"do: [{{loop: {{for: {{in: '{items}'}}, do: [{{a: {{set: {{n: 1}}}}}}]}}}}]"
    outcome = run(body)

    assert (outcome.status, kind_of(outcome.error)) == ("faulted", "expression")


def test_a_loop_whose_condition_fails_ends_with_that_error() -> None:
    outcome = run(
        "do: [{loop: {for: {in: '[1]'}, while: .n.x, do: [{a: {set: {b: 1}}}]}}]", {"n": 1}
    )

    assert outcome.error is not None
    assert (kind_of(outcome.error), outcome.error.instance) == ("expression", "/do/0/loop")


def test_exit_in_a_loop_ends_the_iteration_only() -> None:
    body = """
        do:
          - loop:
              for: {in: '[1, 2]'}
              do:
                - count: {set: {n: "${ (.n // 0) + $item }"}, then: exit}
                - never: {set: {n: -100}}
    """

    assert run(body).output == {"n": 3}


def test_iterations_have_keys_of_their_own_also_when_loops_are_nested() -> None:
    stage = Stage("""
        do:
          - outer:
              for: {in: '[0, 1]'}
              do:
                - inner:
                    for: {in: '[0, 1]'}
                    do: [{work: {call: work}}]
    """)
    while stage.calls():
        stage.answer("work")

    starts = [event for event in stage.events(TaskStarted) if event.kind == "call"]
    assert [event.iteration for event in starts] == [".0.0", ".0.1", ".1.0", ".1.1"]
    assert len({request.key for request in stage.requests()}) == 4


def test_a_fault_in_a_loop_ends_the_loop() -> None:
    stage = Stage("""
        do:
          - loop:
              for: {in: '[1, 2]'}
              do: [{fail: {raise: {error: {type: 'https://x', status: 400}}}}]
    """)

    assert stage.state.status == "faulted"
    assert len(stage.events(IterationStarted)) == 1


def test_a_function_of_the_document_is_a_block_of_its_own() -> None:
    body = """
        use:
          functions:
            double: {input: {schema: {document: {required: [n]}}}, set: {n: '${ .n * 2 }'}}
        do:
          - once: {call: double, with: {n: '${ .start }'}, output: {as: .n}}
          - again: {call: double, with: {n: '${ . }'}}
    """

    assert run(body, {"start": 2}).output == {"n": 8}
    faulted = run(body.replace("{n: '${ .start }'}", "{m: 1}"), {"start": 2})
    assert kind_of(faulted.error) == "validation"
