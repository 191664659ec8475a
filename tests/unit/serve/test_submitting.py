from __future__ import annotations

from typing import Any

import httpx
import pytest

from orchx.errors import Overloaded, StorageFull, Unavailable
from orchx.serve import answers
from tests.unit.serve.conftest import NOW_MS, Rig, stored

ITEM = {"type": "hr.leave", "input": {"days": 3}}
PATH = "/v1/requests"


def _only_error(response: httpx.Response) -> Any:
    assert response.headers["content-type"] == "application/problem+json"
    answers.Problem.model_validate(response.json())
    (error,) = response.json()["errors"]
    return error


async def test_a_request_is_accepted_with_its_location(rig: Rig, client: httpx.AsyncClient) -> None:
    rig.gateway.hold = True
    response = await client.post(PATH, json=ITEM)
    assert response.status_code == 202
    accepted = answers.Accepted.model_validate(response.json())
    assert response.headers["location"] == accepted.links.self == f"/v1/workflows/{accepted.id}"
    shown = await client.get(accepted.links.self)
    answers.Workflow.model_validate(shown.json())
    assert shown.json()["status"] == "running"


async def test_the_command_carries_everything(rig: Rig, client: httpx.AsyncClient) -> None:
    trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    item = ITEM | {
        "tenant": "hr",
        "priority": 0,
        "deadline": "2026-03-01T11:30:00.5+01:00",
        "isolation": "dedicated",
        "callback": {"url": "https://hr.example.com/h?token=1", "events": "all"},
        "correlationId": "c",
        "labels": {"a": "b"},
    }
    response = await client.post(PATH, json=item, headers={"traceparent": trace})
    assert response.status_code == 202
    (command,) = rig.gateway.commands
    request = command.request  # type: ignore[union-attr]
    assert command.traceparent == trace
    assert command.created_at_ms == NOW_MS
    assert request.deadline_ms == NOW_MS + 3_600_500
    assert (request.tenant, request.type, request.priority) == ("hr", "hr.leave", 0)
    assert request.callback is not None
    assert request.callback.events == "all"
    assert request.labels == {"a": "b"}


async def test_the_same_key_is_the_same_workflow(rig: Rig, client: httpx.AsyncClient) -> None:
    headers = {"Idempotency-Key": "k-1"}
    first = await client.post(PATH, json=ITEM, headers=headers)
    rig.clock["now_ms"] += 60_000
    again = await client.post(PATH, json=ITEM, headers=headers)
    assert "idempotency-replayed" not in first.headers
    assert again.headers["idempotency-replayed"] == "true"
    assert again.status_code == 202
    assert again.json()["id"] == first.json()["id"]
    assert again.json()["status"] == "completed"
    assert len(rig.gateway.commands) == 1
    other = await client.post(PATH, json=ITEM | {"priority": 1}, headers=headers)
    assert other.status_code == 409
    tenant = await client.post(PATH, json=ITEM | {"tenant": "it"}, headers=headers)
    assert tenant.json()["id"] != first.json()["id"]


async def test_a_repeated_request_survives_a_newer_version(
    rig: Rig, client: httpx.AsyncClient
) -> None:
    headers = {"Idempotency-Key": "k-1"}
    first = await client.post(PATH, json=ITEM, headers=headers)
    await rig.gateway.catalog.publish(
        stored(version="2.0.0", source=b"{}", request_type="hr.leave")
    )
    rig.clock["monotonic_ms"] += 500
    again = await client.post(PATH, json=ITEM, headers=headers)
    assert again.status_code == 202
    assert again.json()["id"] == first.json()["id"]
    other = await client.post(PATH, json=ITEM | {"input": {"days": 4}}, headers=headers)
    assert other.status_code == 409


@pytest.mark.parametrize("prefer", ["query", "header"])
async def test_waiting_answers_with_the_outcome(
    rig: Rig, client: httpx.AsyncClient, prefer: str
) -> None:
    if prefer == "query":
        response = await client.post(PATH, params={"wait": "1.5"}, json=ITEM)
    else:
        response = await client.post(PATH, json=ITEM, headers={"Prefer": "x, wait=100"})
        assert response.headers["preference-applied"] == "wait=60"
    assert response.status_code == 200
    answers.Workflow.model_validate(response.json())
    assert response.json()["output"] == {"days": 3}
    rig.gateway.hold = True
    late = await client.post(PATH, params={"wait": "0.1"}, json=ITEM)
    assert late.status_code == 202


@pytest.mark.parametrize(
    ("item", "pointer"),
    [
        ({"type": "hr.leave", "input": {"days": 31}}, "/input/days"),
        ({"type": "no.such"}, "/type"),
        ({"definition": {"namespace": "hr", "name": "nope"}}, "/definition"),
        ({"type": "hr.leave", "deadline": "2026-03-01T09:30:00Z"}, "/deadline"),
        ({"type": "hr.leave", "deadline": "2026-02-30T09:30:00Z"}, "/deadline"),
        ({"type": "hr.leave", "deadline": "9999-12-31T23:59:59-23:59"}, "/deadline"),
        ({"type": "hr.leave", "deadline": "9999-01-01T00:00:00Z"}, "/deadline"),
        ({"type": "hr.leave", "deadline": "9998-12-31T23:59:59.9999Z"}, "/deadline"),
        ({"type": "hr.leave", "deadline": "1970-01-01T00:00:00+00:01"}, "/deadline"),
        ({"type": "hr.leave", "priority": 10}, "/priority"),
        ({"type": "hr.leave", "priority": True}, "/priority"),
        ({"type": "hr.leave", "priorty": 1}, "/priorty"),
        ({"type": "hr.leave", "labels": {"a": 1}}, "/labels/a"),
        ({"type": "hr.leave", "callback": {"url": "file:///etc/passwd"}}, "/callback/url"),
        ({"type": "hr.leave", "callback": {"url": "https://u:p@x.example"}}, "/callback/url"),
        ({"type": "hr.leave", "idempotencyKey": "a b"}, "/idempotencyKey"),
        ({}, ""),
        ({"type": "hr.leave", "definition": {"namespace": "hr", "name": "leave"}}, ""),
        ("text", ""),
        (17, ""),
    ],
)
async def test_what_is_wrong_is_named_and_nothing_stored(
    rig: Rig, client: httpx.AsyncClient, item: Any, pointer: str
) -> None:
    response = await client.post(PATH, json=item)
    assert response.status_code == 422
    assert _only_error(response)["pointer"] == pointer
    assert rig.gateway.commands == []


async def test_a_batch_is_all_or_nothing(rig: Rig, client: httpx.AsyncClient) -> None:
    bad = await client.post(PATH, json=[ITEM, {"type": "no.such"}])
    assert bad.status_code == 422
    assert _only_error(bad)["pointer"] == "/1/type"
    assert rig.gateway.commands == []
    key = {"Idempotency-Key": "b"}
    good = await client.post(PATH, json=[ITEM, ITEM], headers=key)
    assert good.status_code == 202
    results = answers.Batch.model_validate(good.json()).results
    assert [one.replayed for one in results] == [False, False]
    again = await client.post(PATH, json=[ITEM, ITEM | {"idempotencyKey": "c"}], headers=key)
    assert [one["replayed"] for one in again.json()["results"]] == [True, False]


@pytest.mark.parametrize(
    ("body", "params", "pointer"),
    [
        ([], {}, ""),
        ([ITEM] * 6, {}, ""),
        ([ITEM], {"wait": "1"}, "?wait"),
        ([ITEM | {"idempotencyKey": "x"}] * 2, {}, "/1/idempotencyKey"),
        (ITEM, {"wait": "61"}, "?wait"),
        (ITEM, {"wait": "1_0"}, "?wait"),
        (ITEM, {"wat": "1"}, "?wat"),
        (ITEM, [("wait", "1"), ("wait", "2")], "?wait"),
    ],
)
async def test_wrong_batches_and_parameters(
    client: httpx.AsyncClient, body: Any, params: Any, pointer: str
) -> None:
    response = await client.post(PATH, json=body, params=params)
    assert response.status_code == 422
    assert _only_error(response)["pointer"] == pointer


async def test_definitions_are_looked_up_once_and_changes_noticed(
    rig: Rig, client: httpx.AsyncClient
) -> None:
    await client.post(PATH, json=ITEM)
    await rig.gateway.catalog.retire("hr", "leave", "1.0.0")
    within = await client.post(PATH, json=ITEM)
    assert within.status_code == 202
    rig.clock["monotonic_ms"] += 500
    after = await client.post(PATH, json=ITEM)
    assert after.status_code == 422
    named = {"definition": {"namespace": "hr", "name": "leave", "version": "1.0.0"}}
    assert "is retired" in _only_error(await client.post(PATH, json=named))["detail"]


@pytest.mark.parametrize(
    ("error", "status", "retry_after"),
    [
        (Overloaded("the share of hr is full", 2.2), 429, "3"),
        (Unavailable("starting"), 503, "1"),
        (StorageFull("disk"), 507, None),
    ],
)
async def test_the_engines_refusals(
    rig: Rig,
    client: httpx.AsyncClient,
    error: Exception,
    status: int,
    retry_after: str | None,
) -> None:
    rig.gateway.fail = error
    response = await client.post(PATH, json=ITEM)
    assert response.status_code == status
    assert response.headers.get("retry-after") == retry_after
    answers.Problem.model_validate(response.json())


async def test_a_backlog_that_is_full_is_503(rig: Rig, client: httpx.AsyncClient) -> None:
    rig.gateway.fail = Unavailable("the backlog is full")
    response = await client.post(PATH, json=ITEM)
    assert (response.status_code, response.json()["type"]) == (503, "/problems/unavailable")
    assert response.headers["retry-after"] == "1"


@pytest.mark.parametrize(
    ("asked", "expected"),
    [({}, ("dedicated", 2)), ({"isolation": "auto", "priority": 5}, ("auto", 5))],
)
async def test_a_definition_says_what_requests_leave_open(
    rig: Rig, client: httpx.AsyncClient, asked: dict[str, Any], expected: tuple[str, int]
) -> None:
    source = b'{"document": {"metadata": {"orchx": {"isolation": "dedicated", "priority": 2}}}}'
    await rig.gateway.catalog.publish(stored(name="urgent", source=source, request_type="urgent"))
    response = await client.post(PATH, json={"type": "urgent", **asked})
    assert response.status_code == 202
    request = rig.gateway.commands[-1].request  # type: ignore[union-attr]
    assert (request.isolation, request.priority) == expected
