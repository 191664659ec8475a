"""fork: branches side by side, racing, and after one another."""

from __future__ import annotations

import pytest

from orchx.domain import messages as m
from orchx.domain.events import TaskCancelled
from orchx.testing.rehearsal import rehearse
from tests.unit.domain.stage import Stage, document, kind_of, unavailable

CALLS = """
    do:
      - both:
          fork:
            branches:
              - a: {call: work, with: {who: a}}
              - b: {call: work, with: {who: b}}
              - c: {set: {who: c}}
"""


def test_results_are_in_the_order_of_the_branches_whoever_is_first() -> None:
    stage = Stage(CALLS)
    assert stage.calls() == ["a", "b"]
    stage.answer("b", 2)
    stage.answer("a", 1)

    assert stage.state.output == [1, 2, {"who": "c"}]


def test_every_branch_gets_the_forks_own_input() -> None:
    body = """
        do:
          - both:
              input: {from: .in}
              fork:
                branches:
                  - a: {set: {a: "${ .n }"}}
                  - b: {set: {b: "${ . }"}}
                  - c: {if: .n == 0, set: {c: 1}}
    """

    outcome = rehearse(document(body), {"in": {"n": 1}})
    assert outcome.output == [{"a": 1}, {"b": {"n": 1}}, {"n": 1}]


def test_a_fault_in_one_branch_ends_the_fork_and_the_calls_of_the_others() -> None:
    stage = Stage(CALLS)
    stage.answer("a", error=unavailable())

    assert stage.state.status == "faulted"
    assert stage.state.error is not None
    assert stage.state.error.instance == "/do/0/both/fork/branches/0/a"
    abandoned = [effect.execution for effect in stage.of(m.Abandon)]
    assert abandoned == [r.execution for r in stage.requests() if r.reference.endswith("/b")]


def test_a_branch_that_fails_at_once_keeps_those_after_it_from_calling() -> None:
    stage = Stage("""
        do:
          - both:
              fork:
                branches:
                  - a: {raise: {error: {type: 'https://x', status: 400}}}
                  - b: {call: work}
    """)

    assert stage.state.status == "faulted"
    assert stage.requests() == []


RACE = """
    do:
      - race:
          fork:
            compete: true
            branches:
              - a: {do: [{call_a: {call: work}}]}
              - b: {call: work}
              - c: {wait: {seconds: 5}, output: {as: '"slow"'}}
"""


def test_the_first_branch_to_end_wins_and_the_others_are_cancelled() -> None:
    stage = Stage(RACE)
    stage.answer("b", "fast")

    assert stage.state.output == "fast"
    assert len(stage.events(TaskCancelled)) == 3  # call_a, a, c
    abandoned = [effect.execution for effect in stage.of(m.Abandon)]
    assert abandoned == [r.execution for r in stage.requests() if r.reference.endswith("/call_a")]


def test_a_failing_branch_does_not_lose_the_race_for_the_others() -> None:
    stage = Stage(RACE)
    stage.answer("b", error=unavailable())
    stage.answer("call_a", error=unavailable())
    assert stage.state.status == "running"
    stage.wait(5_000)

    assert stage.state.output == "slow"


def test_a_race_that_everyone_fails_fails_with_the_last_error() -> None:
    stage = Stage("""
        do:
          - race: {fork: {compete: true, branches: [{a: {call: work}}, {b: {call: work}}]}}
    """)
    stage.answer("b", error=unavailable(503))
    stage.answer("a", error=unavailable(502))

    assert stage.state.error is not None
    assert stage.state.error.status == 502


def test_a_race_is_over_when_who_is_left_waits_for_one_who_failed() -> None:
    stage = Stage("""
        do:
          - race:
              fork:
                compete: true
                branches:
                  - a: {call: work}
                  - b: {metadata: {orchx: {after: [a]}}, call: work}
    """)
    stage.answer("a", error=unavailable())

    assert stage.state.status == "faulted"


def test_an_instantaneous_winner_keeps_the_others_from_beginning() -> None:
    stage = Stage("""
        do:
          - race: {fork: {compete: true, branches: [{a: {set: {n: 1}}}, {b: {call: work}}]}}
    """)

    assert stage.state.output == {"n": 1}
    assert stage.requests() == []


@pytest.mark.parametrize("first", ["a", "b"])
def test_a_branch_that_is_skipped_does_not_win_the_race(first: str) -> None:
    tasks = {"a": "{if: .no, call: work}", "b": "{call: work}"}
    order = [first, "b" if first == "a" else "a"]
    branches = ", ".join(f"{{{name}: {tasks[name]}}}" for name in order)
    stage = Stage(f"do: [{{race: {{fork: {{compete: true, branches: [{branches}]}}}}}}]", {"n": 1})
    assert stage.calls() == ["b"]
    stage.answer("b", "won")

    assert (stage.state.status, stage.state.output) == ("completed", "won")


def test_a_race_that_nobody_runs_gives_the_forks_input() -> None:
    stage = Stage("""
        do:
          - race:
              input: {from: .in}
              fork: {compete: true, branches: [{a: {if: .no, call: w}}, {b: {if: .no, call: w}}]}
    """, {"in": {"n": 1}})  # fmt: skip

    assert (stage.state.status, stage.state.output) == ("completed", {"n": 1})


def test_a_race_that_one_skips_and_the_others_fail_fails() -> None:
    stage = Stage("""
        do:
          - race: {fork: {compete: true, branches: [{a: {if: .no, call: w}}, {b: {call: w}}]}}
    """)
    stage.answer("b", error=unavailable(502))

    assert stage.state.error is not None
    assert (stage.state.status, stage.state.error.status) == ("faulted", 502)


def test_whoever_comes_after_a_skipped_branch_still_runs_the_race() -> None:
    stage = Stage("""
        do:
          - race:
              fork:
                compete: true
                branches:
                  - a: {if: .no, call: work}
                  - b: {metadata: {orchx: {after: [a]}}, call: work, with: {saw: "${ $after.a }"}}
    """, {"n": 1})  # fmt: skip
    (request,) = stage.requests()

    assert request.call.arguments == {"saw": {"n": 1}}


def test_end_in_a_branch_ends_the_workflow_with_what_that_branch_gave() -> None:
    stage = Stage("""
        do:
          - both:
              fork:
                branches:
                  - a: {call: work}
                  - b: {do: [{first: {call: work}}, {stop: {set: {n: b}, then: end}}]}
                  - c: {call: work}
          - never: {call: work}
    """)
    stage.answer("c", "c")
    stage.answer("first")

    assert (stage.state.status, stage.state.output) == ("completed", {"n": "b"})
    assert [effect.execution for effect in stage.of(m.Abandon)] == [stage.requests()[0].execution]


@pytest.mark.parametrize("other", ["", ", then: end"])
def test_of_two_branches_that_end_in_one_turn_the_first_to_say_end_counts(other: str) -> None:
    body = f"""
        do:
          - both:
              fork:
                branches:
                  - a: {{do: [{{x: {{set: {{n: a}}, then: end}}}}]}}
                  - b: {{do: [{{y: {{set: {{n: b}}{other}}}}}]}}
          - never: {{set: {{n: never}}}}
    """

    assert rehearse(document(body)).output == {"n": "a"}


# --- orchx.after ---------------------------------------------------------------------------

DIAMOND = """
    do:
      - graph:
          fork:
            branches:
              - last:
                  metadata: {orchx: {after: [left, right]}}
                  call: work
                  with: {saw: "${ $after }"}
              - left:
                  metadata: {orchx: {after: [top]}}
                  call: work
                  with: {saw: "${ $after }"}
              - right:
                  metadata: {orchx: {after: [top]}}
                  do: [{inside: {call: work, with: {saw: "${ $after.top }", ctx: "${ $context }"}}}]
              - top: {call: work, export: {as: '{top: .}'}}
              - lonely: {call: work, with: {saw: "${ $after }"}}
"""


def test_branches_begin_when_those_they_come_after_have_ended() -> None:
    stage = Stage(DIAMOND)
    assert stage.calls() == ["top", "lonely"]
    stage.answer("lonely", "lonely's")
    stage.answer("top", "top's")
    assert stage.calls() == ["left", "inside"]
    stage.answer("inside", "right's")
    stage.answer("left", "left's")
    assert stage.calls() == ["last"]
    stage.answer("last", "last's")

    assert stage.state.output == ["last's", "left's", "right's", "top's", "lonely's"]
    saw = {r.reference.rpartition("/")[2]: r.call.arguments for r in stage.requests()}
    assert saw["lonely"] == {"saw": {}}
    assert saw["left"] == {"saw": {"top": "top's"}}
    assert saw["inside"] == {"saw": "top's", "ctx": {"top": "top's"}}
    # all that it comes after, and nobody who merely happened to be done
    assert saw["last"] == {"saw": {"left": "left's", "right": "right's", "top": "top's"}}


def test_instantaneous_branches_follow_each_other_in_one_turn() -> None:
    outcome = rehearse(
        document("""
        do:
          - graph:
              fork:
                branches:
                  - b: {metadata: {orchx: {after: [a]}}, set: {b: "${ $after.a.a + 1 }"}}
                  - a: {set: {a: 1}}
    """)
    )

    assert outcome.output == [{"b": 2}, {"a": 1}]


def test_after_is_known_only_in_a_fork() -> None:
    outcome = rehearse(document("do: [{a: {set: {x: '${ $after }'}}}]"))

    assert kind_of(outcome.error) == "expression"


def test_context_of_concurrent_branches_is_not_lost() -> None:
    stage = Stage("""
        do:
          - both:
              fork:
                branches:
                  - a: {call: work, export: {as: '$context + {a: .}'}}
                  - b: {call: work, export: {as: '$context + {b: .}'}}
          - see: {set: "${ $context }"}
    """)
    stage.answer("b", 2)
    stage.answer("a", 1)

    assert stage.state.output == {"a": 1, "b": 2}
