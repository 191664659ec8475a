"""What a user's test of a definition can rely on."""

from __future__ import annotations

import pytest

from orchx.domain.events import TaskCompleted
from orchx.domain.faults import COMMUNICATION, WorkflowFault, standard
from orchx.domain.json_values import JSON
from orchx.errors import Bug
from orchx.testing import rehearsal
from orchx.testing.rehearsal import START_MS, rehearse
from tests.unit.domain.stage import document, kind_of

CALL = document("do: [{a: {call: work, with: {n: '${ .n }'}}}]")


def test_an_outcome_says_how_it_ended_and_all_that_happened() -> None:
    outcome = rehearse(CALL, {"n": 1}, functions={"work": lambda a: a["n"] + 1})

    assert (outcome.status, outcome.output, outcome.error) == ("completed", 2, None)
    assert outcome.types() == [
        "workflow.started",
        "task.started",
        "task.completed",
        "workflow.completed",
    ]
    assert [call.reference for call in outcome.calls] == ["/do/0/a"]
    assert outcome.state.terminal


def test_without_input_there_is_an_empty_object() -> None:
    assert rehearse(document("do: [{a: {set: '${ . }'}}]")).output == {}


def test_a_function_fails_with_a_fault_or_with_anything() -> None:
    def refuse(arguments: JSON) -> JSON:
        raise WorkflowFault(standard(COMMUNICATION, "No", status=403))

    def crash(arguments: JSON) -> JSON:
        return arguments["missing"]

    refused = rehearse(CALL, functions={"work": refuse})
    assert refused.error is not None
    assert (kind_of(refused.error), refused.error.status) == ("communication", 403)
    crashed = rehearse(CALL, functions={"work": crash})
    assert crashed.error is not None
    assert (kind_of(crashed.error), crashed.error.title) == ("runtime", "KeyError")


def test_what_nobody_answers_is_said() -> None:
    service = rehearse(CALL, services={"work": ["acme"]})
    assert service.error is not None
    assert service.error.detail == "nothing answers 'acme'"
    child = rehearse(document("do: [{c: {run: {workflow: {namespace: it, name: other}}}}]"))
    assert child.error is not None
    assert child.error.detail == "nothing answers 'it/other'"


def test_a_capability_is_answered_by_its_service_and_a_child_by_its_name() -> None:
    outcome = rehearse(
        document("do: [{a: {call: cap}}, {c: {run: {workflow: {namespace: it, name: other}}}}]"),
        services={"cap": ["acme", "umbrella"]},
        functions={"acme": lambda _: {"from": "acme"}, "it/other": lambda given: [given]},
    )

    assert outcome.output == [{"from": "acme"}]
    assert next(e.service for e in outcome.events if isinstance(e, TaskCompleted)) == "acme"


def test_time_passes_only_virtually() -> None:
    outcome = rehearse(document("do: [{a: {wait: {days: 400}}}]"))

    assert outcome.elapsed_ms == 400 * 86_400_000
    assert outcome.state.started_at_ms == START_MS


def test_a_workflow_that_needs_another_event_waits() -> None:
    definition = document("do: [{a: {listen: {to: {one: {with: {type: t}}}}}}]")
    event: dict[str, JSON] = {"type": "t", "data": 1}

    assert rehearse(definition).status == "waiting"
    assert rehearse(definition, events=[{**event, "type": "u"}]).status == "waiting"
    assert rehearse(definition, events=[event]).output == [1]


def test_events_come_one_by_one_when_nothing_else_can_happen() -> None:
    definition = document("""
        do:
          - slow: {wait: {hours: 1}}
          - a: {listen: {to: {any: []}}, export: {as: '.[0]'}}
          - b: {listen: {to: {any: []}}, output: {as: '[$context, .[0]]'}}
    """)
    outcome = rehearse(definition, events=[{"type": "x", "data": 1}, {"type": "y", "data": 2}])

    assert outcome.output == [1, 2]


SLOW = document("""
    do:
      - careful:
          try: [{a: {call: work, timeout: {after: {seconds: 2}}}}]
          catch: {do: [{late: {set: {status: "${ $error.status }"}}}]}
""")


@pytest.mark.parametrize(
    ("latency_ms", "output", "elapsed_ms"),
    [(0, "done", 0), (1_999, "done", 1_999), (2_000, {"status": 408}, 2_000)],
)
def test_a_function_can_be_slow_and_run_into_a_timeout(
    latency_ms: int, output: JSON, elapsed_ms: int
) -> None:
    outcome = rehearse(SLOW, functions={"work": lambda _: "done"}, latency_ms={"work": latency_ms})

    assert (outcome.output, outcome.elapsed_ms) == (output, elapsed_ms)


def test_the_faster_of_two_slow_functions_wins_a_race() -> None:
    definition = document("""
        do: [{r: {fork: {compete: true, branches: [{a: {call: one}}, {b: {call: two}}]}}}]
    """)
    outcome = rehearse(
        definition,
        functions={"one": lambda _: 1, "two": lambda _: 2},
        latency_ms={"one": 500, "two": 300},
    )

    assert (outcome.output, outcome.elapsed_ms) == (2, 300)


def test_chance_is_repeated_by_its_seed() -> None:
    definition = document("""
        do:
          - a:
              try: [{b: {raise: {error: {type: 'https://x', status: 500}}}}]
              catch: {retry: {jitter: {from: PT0S, to: {days: 1}}, limit: {attempt: {count: 1}}}}
    """)

    assert rehearse(definition, seed=1).elapsed_ms == rehearse(definition, seed=1).elapsed_ms
    assert rehearse(definition, seed=1).elapsed_ms != rehearse(definition, seed=2).elapsed_ms


def test_a_rehearsal_without_an_end_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rehearsal, "MAX_TURNS", 10)
    with pytest.raises(Bug, match="no end"):
        rehearse(document("do: [{a: {wait: {seconds: 1}, then: a}}]"))
