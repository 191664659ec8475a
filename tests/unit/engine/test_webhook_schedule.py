"""Pauses, limits and what each answer means."""

from __future__ import annotations

from dataclasses import replace

import pytest

from orchx.engine.webhook_schedule import LONGEST_DELAY_MS, RetrySchedule
from orchx.engine.webhook_sending import Answer
from orchx.ports.deliveries import Delivery

SCHEDULE = RetrySchedule(first_delay_ms=1000, give_up_after_s=86_400, draw=lambda: 0.5)
DELIVERY = Delivery(
    id="msg_1",
    workflow_id="w",
    tenant="acme",
    position=1,
    url="https://example.com",
    event_type="t",
    body=b"{}",
    created_at_ms=0,
)


def test_pauses_double_up_to_an_hour() -> None:
    pauses = [SCHEDULE.delay_ms(attempts) for attempts in range(1, 15)]
    assert pauses[:4] == [1000, 2000, 4000, 8000]
    assert pauses[-2:] == [LONGEST_DELAY_MS, LONGEST_DELAY_MS]
    assert SCHEDULE.delay_ms(10**6) == LONGEST_DELAY_MS


@pytest.mark.parametrize(("draw", "expected"), [(0.0, 800), (0.5, 1000), (0.999999, 1200)])
def test_jitter_spreads_a_pause_by_a_fifth(draw: float, expected: int) -> None:
    assert replace(SCHEDULE, draw=lambda: draw).delay_ms(1) == expected


def test_the_attempts_fill_a_day() -> None:
    limit = SCHEDULE.attempts_limit
    pauses = [SCHEDULE.delay_ms(attempts) for attempts in range(1, limit)]
    assert 23 * 3_600_000 < sum(pauses) <= 24 * 3_600_000


@pytest.mark.parametrize(
    ("first_delay_ms", "give_up_after_s", "limit"),
    [(1000, 0.5, 1), (1000, 1.0, 2), (1000, 3.0, 3), (10**9, 7200.0, 3), (1, 1e9, 277_798)],
)
def test_limits_of_odd_settings(first_delay_ms: int, give_up_after_s: float, limit: int) -> None:
    schedule = replace(SCHEDULE, first_delay_ms=first_delay_ms, give_up_after_s=give_up_after_s)
    assert abs(schedule.attempts_limit - limit) <= limit // 1000


@pytest.mark.parametrize("status", [200, 201, 202, 204, 299])
def test_any_2xx_is_delivered(status: int) -> None:
    after = SCHEDULE.after(DELIVERY, Answer(status=status), 5)
    assert (after.status, after.attempts, after.ended_at_ms) == ("delivered", 1, 5)


@pytest.mark.parametrize("status", [100, 301, 307, 400, 404, 429, 500, 503])
def test_anything_else_is_tried_again(status: int) -> None:
    after = SCHEDULE.after(DELIVERY, Answer(status=status), 5)
    assert (after.status, after.next_attempt_at_ms) == ("pending", 1005)
    assert after.last_error == f"the receiver answered {status}"


@pytest.mark.parametrize("answer", [Answer(status=410), Answer(error="not allowed", refused=True)])
def test_some_answers_are_final(answer: Answer) -> None:
    assert SCHEDULE.after(DELIVERY, answer, 5).status == "undelivered"


def test_retry_after_is_kept_if_it_is_longer() -> None:
    def next_ms(retry_after_s: float, delivery: Delivery = DELIVERY) -> int:
        answer = Answer(status=503, retry_after_s=retry_after_s)
        return SCHEDULE.after(delivery, answer, 0).next_attempt_at_ms

    assert next_ms(30) == 30_000
    assert next_ms(0.1) == 1000
    assert next_ms(-5) == 1000
    assert next_ms(6 * 3600) == 6 * 3_600_000
    assert next_ms(1e9) == 24 * 3_600_000  # not beyond its day
    old = replace(DELIVERY, created_at_ms=-(10**9))
    assert next_ms(6 * 3600, old) == LONGEST_DELAY_MS


def test_errors_are_cut() -> None:
    after = SCHEDULE.after(DELIVERY, Answer(error="x" * 10_000), 0)
    assert after.last_error is not None
    assert len(after.last_error) == 500
