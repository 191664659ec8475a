"""When a block runs again: backoff, jitter, limits, what a service asks for."""

from __future__ import annotations

import itertools

import pytest

from orchx.domain.events import TaskRetried
from orchx.domain.faults import Fault
from orchx.domain.json_values import JSON
from orchx.domain.retry import MAX_RETRY_DELAY_MS, MIN_UNLIMITED_DELAY_MS
from orchx.testing.rehearsal import START_MS, Outcome, rehearse
from tests.unit.domain.stage import Stage, document, failing, kind_of, unavailable

BODY = "do: [{careful: {try: [{work: {call: work}}], catch: {retry: %s}}}]"


def run(policy: str, fault: Fault | None = None, *, seed: int = 0, input_: JSON = None) -> Outcome:
    functions = {"work": failing(fault or unavailable())}
    return rehearse(document(BODY % policy), input_, functions=functions, seed=seed)


def delays_ms(outcome: Outcome) -> list[int]:
    due = [event.due_at_ms for event in outcome.events if isinstance(event, TaskRetried)]
    return [after - before for before, after in itertools.pairwise([START_MS, *due])]


def first_delay_ms(policy: str, fault: Fault | None = None) -> int | None:
    stage = Stage(BODY % policy)
    stage.answer("work", error=fault or unavailable())
    retried = stage.events(TaskRetried)
    return retried[0].due_at_ms - START_MS if retried else None


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        ("delay: {seconds: 2}", [2_000, 2_000, 2_000, 2_000]),
        ("delay: PT0.5S, backoff: {constant: {}}", [500, 500, 500, 500]),
        ("delay: {seconds: 2}, backoff: {linear: {}}", [2_000, 4_000, 6_000, 8_000]),
        (
            "delay: {seconds: 2}, backoff: {linear: {increment: {milliseconds: 100}}}",
            [2_000, 2_100, 2_200, 2_300],
        ),
        ("delay: {seconds: 1}, backoff: {exponential: {}}", [1_000, 2_000, 4_000, 8_000]),
        (
            "delay: {seconds: 1}, backoff: {exponential: {factor: 3, maxDelay: {seconds: 5}}}",
            [1_000, 3_000, 5_000, 5_000],
        ),
        ("delay: '${ .pause }'", [1_500, 1_500, 1_500, 1_500]),
    ],
)
def test_backoff(policy: str, expected: list[int]) -> None:
    outcome = run(f"{{{policy}, limit: {{attempt: {{count: 4}}}}}}", input_={"pause": "PT1.5S"})

    assert delays_ms(outcome) == expected
    assert outcome.status == "faulted"


def test_jitter_is_within_its_range_and_differs() -> None:
    policy = (
        "{delay: {seconds: 1}, jitter: {from: {milliseconds: 100}, to: {milliseconds: 200}},"
        " limit: {attempt: {count: 30}}}"
    )
    delays = delays_ms(run(policy))

    assert len(set(delays)) > 10
    assert all(1_100 <= delay < 1_200 for delay in delays)
    assert delays_ms(run(policy)) == delays
    assert delays_ms(run(policy, seed=1)) != delays


@pytest.mark.parametrize(
    ("limit", "delays"), [("PT10S", [3_000] * 3), ("PT9S", [3_000] * 3), ("PT8.999S", [3_000] * 2)]
)
def test_a_duration_limits_all_retries_together(limit: str, delays: list[int]) -> None:
    outcome = run(f"{{delay: {{seconds: 3}}, limit: {{duration: {limit}}}}}")

    assert delays_ms(outcome) == delays
    assert outcome.elapsed_ms == sum(delays)


def test_without_any_limit_it_goes_on_but_does_not_spin() -> None:
    stage = Stage(BODY % "{}")
    for _ in range(50):
        stage.answer("work", error=unavailable())
        assert stage.state.next_due_ms() == stage.world.now_ms + MIN_UNLIMITED_DELAY_MS
        stage.wait(MIN_UNLIMITED_DELAY_MS)

    assert stage.state.status == "running"


def test_a_limited_policy_without_a_delay_runs_again_at_once() -> None:
    outcome = run("{limit: {attempt: {count: 3}}}")

    assert (delays_ms(outcome), outcome.elapsed_ms) == ([0, 0, 0], 0)


@pytest.mark.parametrize(
    ("conditions", "again"),
    [
        ("when: $error.status == 503", True),
        ("when: $error.status == 500", False),
        ("exceptWhen: $error.status == 503", False),
        ("exceptWhen: .no", True),
    ],
)
def test_conditions_of_the_policy(conditions: str, again: bool) -> None:
    delay = first_delay_ms(f"{{{conditions}, limit: {{attempt: {{count: 1}}}}}}")

    assert (delay is not None) is again


@pytest.mark.parametrize(
    ("retry_after_ms", "expected"),
    [(5_000, 5_000), (10, 1_000), (10**15, MAX_RETRY_DELAY_MS), (-5, 1_000)],
)
def test_what_the_service_asks_for_is_the_least_delay(retry_after_ms: int, expected: int) -> None:
    policy = "{delay: {seconds: 1}, limit: {attempt: {count: 1}}}"

    assert first_delay_ms(policy, unavailable(retry_after_ms=retry_after_ms)) == expected


def test_a_service_that_asks_for_more_time_than_there_is_ends_the_retries() -> None:
    policy = "{delay: {seconds: 1}, limit: {duration: {seconds: 10}}}"

    assert first_delay_ms(policy, unavailable(retry_after_ms=20_000)) is None


def test_growth_has_an_end() -> None:
    policy = (
        "{delay: {days: 1}, backoff: {exponential: {factor: 10}}, limit: {attempt: {count: 400}}}"
    )
    delays = delays_ms(run(policy))

    assert delays[-1] == MAX_RETRY_DELAY_MS
    assert len(delays) == 400


def test_a_delay_that_is_no_duration_is_an_expression_error() -> None:
    outcome = run("{delay: '${ .pause }', limit: {attempt: {count: 1}}}", input_={"pause": "soon"})

    assert kind_of(outcome.error) == "expression"
