from __future__ import annotations

import json

import httpx
import pytest

from orchx.ports.deliveries import Delivery
from orchx.ports.gateway import Readiness
from orchx.serve import answers, examples
from tests.unit.serve.conftest import NOW_MS, Rig

YAML = """\
document: {dsl: 1.0.3, namespace: hr, name: trip, version: 1.0.0}  # a comment
do:
  - greet:
      set: {greeting: hello}
"""
PATH = "/v1/definitions"
IS_YAML = {"content-type": "application/yaml"}


async def test_publishing_reading_and_retiring(client: httpx.AsyncClient) -> None:
    params = {"requestType": "hr.trip"}
    dry = await client.post(PATH, content=YAML, headers=IS_YAML, params={"dryRun": "true"})
    assert dry.status_code == 200
    assert dry.json()["createdAt"] is None
    assert (await client.get(f"{PATH}/hr/trip")).status_code == 404
    first = await client.post(PATH, content=YAML, headers=IS_YAML, params=params)
    assert first.status_code == 201
    answers.PublishResult.model_validate(first.json())
    again = await client.put(PATH, content=YAML, headers=IS_YAML, params=params)
    assert again.status_code == 200
    path = first.headers["location"]
    shown = await client.get(path)
    document = answers.DefinitionDocument.model_validate(shown.json()).document
    text = await client.get(path, headers={"accept": "application/yaml"})
    assert text.text == YAML
    changed = json.dumps(document | {"do": [{"x": {"set": {"a": 1}}}]})
    conflict = await client.put(PATH, content=changed, headers={"content-type": "application/json"})
    assert conflict.status_code == 409
    assert (await client.post("/v1/requests", json={"type": "hr.trip"})).status_code == 202
    assert (await client.delete(path)).status_code == 204
    assert (await client.get(path)).status_code == 404
    assert (await client.delete(path)).status_code == 404
    assert (await client.post("/v1/requests", json={"type": "hr.trip"})).status_code == 422
    versions = (await client.get(f"{PATH}/hr/trip")).json()["definitions"]
    assert [one["retired"] for one in versions] == [True]
    assert (await client.put(PATH, content=YAML, headers=IS_YAML)).status_code == 409


async def test_publishing_again_with_a_type_binds_it(client: httpx.AsyncClient) -> None:
    assert (await client.post(PATH, content=YAML, headers=IS_YAML)).status_code == 201
    params = {"requestType": "hr.trip"}
    again = await client.post(PATH, content=YAML, headers=IS_YAML, params=params)
    assert (again.status_code, again.json()["requestType"]) == (200, "hr.trip")
    assert (await client.post("/v1/requests", json={"type": "hr.trip"})).status_code == 202
    params = {"requestType": "hr.journey"}
    other = await client.post(PATH, content=YAML, headers=IS_YAML, params=params)
    assert other.status_code == 409


@pytest.mark.parametrize(
    ("text", "kind", "status"),
    [
        ("document: [", "application/yaml", 422),
        ("just text", "text/yaml", 422),
        ("{}", "application/json", 422),
        ("{}", "text/plain", 415),
        (YAML.replace("hello", "${ .a | }"), "application/yaml", 422),
        (YAML + "input: {schema: {format: json, document: {type: 7}}}\n", "text/yaml", 422),
        (
            YAML + 'input: {schema: {format: json, document: {$ref: "http://x.example/s"}}}\n',
            "text/yaml",
            422,
        ),
        (YAML + "#" * 256 * 1024, "application/yaml", 413),
        ("[" * 3000, "application/json", 422),
        ("[" * 3000, "application/yaml", 422),
    ],
)
async def test_documents_that_are_not_taken(
    client: httpx.AsyncClient, text: str, kind: str, status: int
) -> None:
    response = await client.post(PATH, content=text, headers={"content-type": kind})
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    if status == 422:
        assert response.json()["errors"]


async def test_services_come_back_as_they_were_sent(client: httpx.AsyncClient) -> None:
    put = await client.put("/v1/services", json=examples.SERVICES)
    assert put.json() == examples.SERVICES
    assert (await client.get("/v1/services")).json() == examples.SERVICES
    small = {"services": [{"name": "a", "baseUrl": "https://a.example", "timeoutMs": 5.0}]}
    both = (await client.put("/v1/services", json=small)).json()["services"]
    assert [one["name"] for one in both] == ["a", "it-desk"]
    bad = await client.put("/v1/services", json={"services": [{"name": "a", "base_url": "x"}]})
    assert {one["pointer"] for one in bad.json()["errors"]} == {
        "/services/0/baseUrl",
        "/services/0/base_url",
    }


async def test_deliveries_come_page_by_page(rig: Rig, client: httpx.AsyncClient) -> None:
    made = [
        Delivery(
            id=f"msg_{number}",
            workflow_id="wf_1",
            tenant="acme",
            position=number,
            url="https://hr/h",
            event_type="t",
            body=b"{}",
            created_at_ms=NOW_MS,
        )
        for number in range(5)
    ]
    await rig.gateway.deliveries.add(made, offset=1)
    found: list[str] = []
    path: str | None = "/v1/deliveries?limit=2&status=pending"
    while path is not None:
        answer = await client.get(path)
        page = answers.DeliveryList.model_validate(answer.json())
        found += [one.id for one in page.deliveries]
        path = answer.links["next"]["url"] if "next" in answer.links else None
        assert (path is None) == (page.cursor is None)
    assert found == [one.id for one in made]


@pytest.mark.parametrize("cursor", ["x", "é", "W10", "WzkyMjMzNzIwMzY4NTQ3NzU4MDgsIiIsMCwiIl0"])
async def test_a_cursor_of_another_s_is_refused(client: httpx.AsyncClient, cursor: str) -> None:
    answer = await client.get("/v1/deliveries", params={"cursor": cursor})
    assert answer.status_code == 422


async def test_deliveries_hide_what_may_be_secret(rig: Rig, client: httpx.AsyncClient) -> None:
    delivery = Delivery(
        id="msg_1",
        workflow_id="wf_1",
        tenant="acme",
        position=1,
        url="https://user:pw@hr.example.com:8/hook?token=s3cret#f",
        event_type="x",
        body=b"{}",
        created_at_ms=1,
        status="undelivered",
        ended_at_ms=2,
    )
    await rig.gateway.deliveries.add([delivery], offset=1)
    listed = await client.get("/v1/deliveries", params={"status": "undelivered"})
    (shown,) = answers.DeliveryList.model_validate(listed.json()).deliveries
    assert shown.url == "https://hr.example.com:8/hook"
    replay = await client.post("/v1/deliveries/replay", json={"ids": ["msg_1", "none"]})
    assert replay.json() == {"replayed": 1}
    pending = await client.get("/v1/deliveries", params={"status": "pending"})
    assert len(pending.json()["deliveries"]) == 1


async def test_health_readiness_metrics_and_the_index(rig: Rig) -> None:
    async with rig.client(None) as anyone:
        assert (await anyone.get("/healthz")).json() == {"status": "ok"}
        ready = await anyone.get("/readyz")
        assert ready.json() == {"ready": True, "parts": {"queue": "ok"}}
        rig.gateway.readiness = Readiness(ready=False, parts={"queue": "starting"})
        not_ready = await anyone.get("/readyz")
        assert not_ready.status_code == 503
        assert not_ready.json()["parts"] == {"queue": "starting"}
        assert not_ready.headers["retry-after"] == "1"
        index = (await anyone.get("/")).json()
        for path in index["links"].values():
            assert (await anyone.get(path)).status_code in (200, 401, 405, 503)
    async with rig.client("read") as reader:
        metrics = await reader.get("/metrics")
        assert metrics.headers["content-type"].startswith("text/plain; version=0.0.4")
