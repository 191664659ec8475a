"""Every fault, as a client sees it."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import httpx
import pytest

Post = Callable[..., httpx.Response]
Effects = Callable[[], list[dict[str, Any]]]
PATH = "/it/accounts"


@pytest.mark.parametrize("status", [429, 500, 503])
def test_errors_have_no_effect(
    status: int, http: httpx.Client, post: Post, effects: Effects, account: dict[str, str]
) -> None:
    faults = {"error_rate": 1, "error_status": status, "retry_after_s": 7}
    http.put("/faults/it", json=faults)

    response = post(PATH, account)

    assert response.status_code == status
    assert response.headers["retry-after"] == "7"
    assert response.headers["content-type"] == "application/problem+json"
    assert effects() == []


def test_no_retry_after_unless_asked_for(
    http: httpx.Client, post: Post, account: dict[str, str]
) -> None:
    http.put("/faults/it", json={"error_rate": 1})

    assert "retry-after" not in post(PATH, account).headers


def test_latency_delays_and_jitter_stays_in_its_range(
    http: httpx.Client, post: Post, account: dict[str, str]
) -> None:
    http.put("/faults/it", json={"latency_ms": 50, "latency_jitter_ms": 30})

    started_at = time.monotonic()
    assert post(PATH, account).status_code == 201

    assert time.monotonic() - started_at >= 0.05


def test_hanging_call_outlives_its_client_and_still_has_its_effect(
    http: httpx.Client, post: Post, effects: Effects, account: dict[str, str], workflow: str
) -> None:
    http.put("/faults/it", json={"hang_rate": 1, "hang_s": 0.3})

    headers = {"Idempotency-Key": workflow, "X-Orchx-Workflow": workflow}
    with pytest.raises(httpx.ReadTimeout):
        http.post(PATH, json=account, headers=headers, timeout=0.1)
    assert effects() == []

    # The repeated call hangs as long, and comes after the first one.
    assert post(PATH, account, key=workflow).headers["Idempotency-Replayed"] == "true"
    assert len(effects()) == 1


def test_dead_service_closes_the_connection_without_effect(
    http: httpx.Client, post: Post, effects: Effects, account: dict[str, str]
) -> None:
    http.put("/faults/it", json={"dead": True})

    with pytest.raises(httpx.TransportError):
        post(PATH, account)

    assert effects() == []
    assert http.get("/hr/employees/EMP-1/leave-balance").status_code == 200


def test_lost_response_has_its_effect_and_the_key_makes_it_safe(
    http: httpx.Client, post: Post, effects: Effects, account: dict[str, str], workflow: str
) -> None:
    http.put("/faults/it", json={"lose_response_rate": 1})

    with pytest.raises(httpx.TransportError):
        post(PATH, account, key=workflow)

    assert len(effects()) == 1
    http.delete("/faults/it")
    assert post(PATH, account, key=workflow).headers["Idempotency-Replayed"] == "true"
    assert len(effects()) == 1


def test_lost_response_without_key_is_the_double_effect_trap(
    http: httpx.Client, post: Post, effects: Effects, account: dict[str, str]
) -> None:
    before = http.get("/ledger/summary").json()["duplicated_effects"]
    http.put("/faults/it", json={"lose_response_rate": 1})
    with pytest.raises(httpx.TransportError):
        post(PATH, account)
    http.delete("/faults")

    post(PATH, account)

    assert len(effects()) == 2
    assert http.get("/ledger/summary").json()["duplicated_effects"] == before + 1


def wrong(kind: str) -> dict[str, Any]:
    return {"wrong_answer_rate": 1, "wrong_answers": [kind], "flood_bytes": 300_000}


def test_malformed_json(http: httpx.Client, post: Post, account: dict[str, str]) -> None:
    http.put("/faults/it", json=wrong("malformed_json"))

    response = post(PATH, account)

    assert response.headers["content-type"] == "application/json"
    with pytest.raises(ValueError, match=r"Expecting|Unterminated"):
        response.json()


def test_wrong_content_type(http: httpx.Client, post: Post, account: dict[str, str]) -> None:
    http.put("/faults/it", json=wrong("wrong_content_type"))

    response = post(PATH, account)

    assert (response.status_code, response.headers["content-type"]) == (201, "text/html")


def test_schema_violation(http: httpx.Client, post: Post, account: dict[str, str]) -> None:
    http.put("/faults/it", json=wrong("schema_violation"))

    response = post(PATH, account)

    assert response.headers["content-type"] == "application/json"
    assert "account_id" not in response.json()


def test_flood(http: httpx.Client, post: Post, account: dict[str, str]) -> None:
    http.put("/faults/it", json=wrong("flood"))

    assert len(post(PATH, account).content) > 300_000


def test_wrong_answer_hides_an_effect_that_a_repetition_reveals(
    http: httpx.Client, post: Post, effects: Effects, account: dict[str, str], workflow: str
) -> None:
    http.put("/faults/it", json={"wrong_answer_rate": 1})
    post(PATH, account, key=workflow)
    http.delete("/faults")

    assert post(PATH, account, key=workflow).headers["Idempotency-Replayed"] == "true"
    assert len(effects()) == 1


def test_burst_begins_and_ends(http: httpx.Client, post: Post, account: dict[str, str]) -> None:
    burst = {"after_calls": 2, "count": 3, "status": 500}
    http.put("/faults/it", json={"burst": burst})

    statuses = [post(PATH, account).status_code for _ in range(7)]

    assert statuses == [201, 201, 500, 500, 500, 201, 201]


def statuses_of(settings: dict[str, Any], http: httpx.Client, post: Post) -> list[int]:
    http.put("/faults/mail", json=settings)
    body = {"to": "a@example.com", "subject": "Hello", "body": "Welcome."}
    return [post("/mail/messages", body).status_code for _ in range(40)]


def test_seed_repeats_the_same_faults(http: httpx.Client, post: Post) -> None:
    settings = {"seed": 7, "error_rate": 0.5}

    first = statuses_of(settings, http, post)

    assert statuses_of(settings, http, post) == first
    assert statuses_of({**settings, "seed": 8}, http, post) != first
    assert 8 < first.count(503) < 32


def test_other_rates_leave_the_errors_where_they_are(http: httpx.Client, post: Post) -> None:
    settings = {"seed": 7, "error_rate": 0.5}
    noisy = {**settings, "wrong_answer_rate": 1, "wrong_answers": ["schema_violation"]}

    assert statuses_of(noisy, http, post) == statuses_of(settings, http, post)


def test_operation_has_its_own_faults(
    http: httpx.Client, post: Post, account: dict[str, str]
) -> None:
    http.put("/faults/it", json={"error_rate": 1})
    http.put("/faults/it/createAccount", json={"error_rate": 0})
    member = {"employee_id": "EMP-7"}

    assert post(PATH, account).status_code == 201
    assert post("/it/groups/a/members", member).status_code == 503

    http.delete("/faults/it/createAccount")
    assert post(PATH, account).status_code == 503
    http.delete("/faults/it")
    assert post("/it/groups/a/members", member).status_code == 201


def test_report_tells_what_was_injected(
    http: httpx.Client, post: Post, account: dict[str, str]
) -> None:
    http.put("/faults/it", json={"burst": {"count": 1}})
    post(PATH, account)
    post(PATH, account)

    (report,) = http.get("/faults").json()

    assert (report["service"], report["operation"], report["calls"]) == ("it", None, 2)
    assert report["injected"] == {"status_503": 1}


@pytest.mark.parametrize(
    "settings", [{"error_rate": -1}, {"error_status": 404}, {"wrong_answers": []}, {"typo": 1}]
)
def test_invalid_settings_are_refused(settings: dict[str, Any], http: httpx.Client) -> None:
    assert http.put("/faults/it", json=settings).status_code == 422
    assert http.get("/faults").json() == []
