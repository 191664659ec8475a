"""What counts against a service, and for how long (ADR 0010): time that ran out counts too."""

from __future__ import annotations

import pytest

from orchx.domain.events import TaskCancelled, TaskFaulted
from orchx.domain.faults import COMMUNICATION, standard
from orchx.domain.state import CERTAIN_WEIGHT, UNKNOWN_WEIGHT
from tests.unit.domain.stage import Stage, unavailable

SERVICES = {"cap": ["one", "two"]}
RETRY = "retry: {delay: {seconds: 0}, limit: {attempt: {count: 8}}}"


def tried(block: str, retry: str = RETRY) -> Stage:
    """Return a `try` with this block; the services of `cap` are `one`, then `two`."""
    body = f"do: [{{careful: {{try: [{block}], catch: {{{retry}}}}}}}]"
    return Stage(body, services=SERVICES)


def run_out_of_time(stage: Stage, times: int) -> None:
    """Let a second pass without an answer, again and again; retries begin at once."""
    for _ in range(times):
        stage.wait(1_000)
        stage.wait(0)


def asked(stage: Stage) -> list[str | None]:
    return [request.call.service for request in stage.requests()]


TIMEOUT = "timeout: {after: {seconds: 1}}"
LIMITED = "retry: {delay: {seconds: 0}, limit: {attempt: {count: 8, duration: {seconds: 1}}}}"
HANGING = {
    "the call's own timeout": (f"{{work: {{call: cap, {TIMEOUT}}}}}", RETRY),
    "a block's timeout": (f"{{block: {{do: [{{work: {{call: cap}}}}], {TIMEOUT}}}}}", RETRY),
    "an inner try's timeout": (
        f"{{inner: {{try: [{{work: {{call: cap}}}}], catch: {{{RETRY}}}, {TIMEOUT}}}}}",
        RETRY,
    ),
    "the limit of an attempt": ("{work: {call: cap}}", LIMITED),
    "the limit of an outer try's attempt": (
        f"{{inner: {{try: [{{work: {{call: cap}}}}], catch: {{{RETRY}}}}}}}",
        LIMITED,
    ),
}


@pytest.mark.parametrize("what", HANGING)
def test_a_service_that_hangs_is_left_after_the_third_time(what: str) -> None:
    stage = tried(*HANGING[what])
    run_out_of_time(stage, 4)
    stage.answer("work", "done")

    assert asked(stage) == ["one", "one", "one", "two", "two"]
    assert (stage.state.status, stage.state.output) == ("completed", "done")


def test_time_that_ran_out_is_recorded_with_the_service_that_let_it() -> None:
    own = tried(f"{{work: {{call: cap, {TIMEOUT}}}}}")
    run_out_of_time(own, 1)
    assert [event.service for event in own.events(TaskFaulted)] == ["one"]
    assert list(own.state.failures.values()) == [{"one": UNKNOWN_WEIGHT}]

    around = tried(f"{{block: {{do: [{{work: {{call: cap}}}}], {TIMEOUT}}}}}")
    run_out_of_time(around, 1)
    assert [event.service for event in around.events(TaskCancelled)] == ["one"]
    assert [event.service for event in around.events(TaskFaulted)] == [None]


BRANCHES = "{both: {fork: {%s, branches: [{work: {call: cap}}, {other: {call: %s}}]}}}"


def test_a_call_that_is_given_up_for_another_reason_says_nothing_of_its_service() -> None:
    stage = tried(BRANCHES % ("compete: false", "other"))
    stage.answer("other", error=unavailable())
    stage.wait(0)

    assert [event.service for event in stage.events(TaskCancelled)] == [None]
    assert asked(stage) == ["one", None, "one", None]
    assert stage.state.failures == {}


def test_what_an_inner_try_passes_on_still_counts_when_the_outer_one_runs_again() -> None:
    inner = "{inner: {try: [{work: {call: cap}}], catch: {errors: {with: {status: 400}}}}}"
    stage = tried(inner)
    for _ in range(2):
        stage.answer("work", error=unavailable())
        stage.wait(0)

    assert asked(stage) == ["one", "two", "one"]
    assert list(stage.state.failures.values()) == [{"one": CERTAIN_WEIGHT, "two": CERTAIN_WEIGHT}]


def test_nothing_is_kept_of_a_try_that_nobody_repeats() -> None:
    alone = "{inner: {try: [{work: {call: cap}}], catch: {errors: {with: {status: 400}}}}}"
    body = f"do: [{{race: {{fork: {{compete: true, branches: [{alone}, {{b: {{call: w}}}}]}}}}}}]"
    stage = Stage(body, services=SERVICES)
    stage.answer("work", error=unavailable())

    assert stage.calls() == ["b"]
    assert stage.state.failures == {}


def test_nothing_is_kept_of_a_race_that_is_over() -> None:
    lost = "connection lost"
    inner = f"{{slow: {{try: [{{work: {{call: cap}}}}], catch: {{{RETRY}}}}}}}"
    race = f"{{race: {{fork: {{compete: true, branches: [{inner}, {{b: {{call: w}}}}]}}}}}}"
    stage = tried(f"{race}, {{next: {{call: w}}}}")
    stage.answer("work", error=standard(COMMUNICATION, lost, status=502))
    stage.wait(0)
    assert stage.state.failures
    stage.answer("b")

    assert stage.calls() == ["next"]
    assert stage.state.failures == {}


def test_a_loop_of_tries_keeps_nothing_of_those_that_were_handled() -> None:
    inner = "{inner: {try: [{work: {call: cap}}], catch: {do: [{pass: {set: {n: 1}}}]}}}"
    stage = tried(f"{{loop: {{for: {{in: '[1, 2, 3]'}}, do: [{inner}]}}}}, {{next: {{call: w}}}}")
    for _ in range(3):
        stage.answer("work", error=unavailable())
        assert stage.state.failures == {}

    assert stage.calls() == ["next"]
