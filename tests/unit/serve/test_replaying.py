"""What was accepted once stays accepted, whatever has changed when it is sent again."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from orchx.errors import Overloaded, StorageFull, Unavailable
from tests.unit.serve.conftest import Rig, stored

ITEM: dict[str, Any] = {"type": "hr.leave", "input": {"days": 3}}
NAMED: dict[str, Any] = {
    "definition": {"namespace": "hr", "name": "leave", "version": "1.0.0"},
    "input": {"days": 3},
}
KEY = {"Idempotency-Key": "k-1"}
PATH = "/v1/requests"


async def _again(client: httpx.AsyncClient, first: httpx.Response, item: Any) -> None:
    again = await client.post(PATH, json=item, headers=KEY)
    assert again.status_code == 202, again.text
    assert again.headers["idempotency-replayed"] == "true"
    assert again.json()["id"] == first.json()["id"]


async def test_after_its_deadline(rig: Rig, client: httpx.AsyncClient) -> None:
    item = ITEM | {"deadline": "2026-03-01T10:00:00Z"}
    first = await client.post(PATH, json=item, headers=KEY)
    assert first.status_code == 202
    rig.clock["now_ms"] += 3_600_000
    await _again(client, first, item)
    other = item | {"deadline": "2026-03-01T10:00:01Z"}
    assert (await client.post(PATH, json=other, headers=KEY)).status_code == 409
    new = await client.post(PATH, json=item, headers={"Idempotency-Key": "k-2"})
    assert new.status_code == 422
    assert len(rig.gateway.commands) == 1


@pytest.mark.parametrize("item", [ITEM, NAMED])
async def test_after_its_definition_was_retired(
    rig: Rig, client: httpx.AsyncClient, item: dict[str, Any]
) -> None:
    first = await client.post(PATH, json=item, headers=KEY)
    await rig.gateway.catalog.retire("hr", "leave", "1.0.0")
    rig.clock["monotonic_ms"] += 500
    await _again(client, first, item)
    for days in (4, 3.0):
        other = item | {"input": {"days": days}}
        assert (await client.post(PATH, json=other, headers=KEY)).status_code == 409


@pytest.mark.parametrize(
    "full", [Unavailable("the backlog is full"), Overloaded("the share is full"), StorageFull("x")]
)
async def test_while_there_is_no_room(
    rig: Rig, client: httpx.AsyncClient, full: Unavailable
) -> None:
    first = await client.post(PATH, json=ITEM, headers=KEY)
    rig.gateway.full = full
    await _again(client, first, ITEM)
    assert (await client.post(PATH, json=ITEM)).status_code == full.status
    new = await client.post(PATH, json=ITEM, headers={"Idempotency-Key": "k-2"})
    assert new.status_code == full.status
    some = await client.post(PATH, json=[ITEM | {"idempotencyKey": "k-1"}, ITEM])
    assert some.status_code == full.status


async def test_after_a_version_with_other_metadata(rig: Rig, client: httpx.AsyncClient) -> None:
    latest = NAMED | {"definition": {"namespace": "hr", "name": "leave"}}
    first = await client.post(PATH, json=latest, headers=KEY)
    by_type = await client.post(PATH, json=ITEM, headers={"Idempotency-Key": "k-2"})
    source = b'{"document":{"metadata":{"orchx":{"isolation":"dedicated","priority":2}}}}'
    await rig.gateway.catalog.publish(
        stored(version="2.0.0", source=source, request_type="hr.leave")
    )
    rig.clock["monotonic_ms"] += 500
    await _again(client, first, latest)
    again = await client.post(PATH, json=ITEM, headers={"Idempotency-Key": "k-2"})
    assert again.json()["id"] == by_type.json()["id"]
    named = {"definition": {"namespace": "hr", "name": "leave", "version": "2.0.0"}}
    assert (await client.post(PATH, json=latest | named, headers=KEY)).status_code == 409


@pytest.mark.parametrize(
    "change",
    [
        {"priority": 1},
        {"isolation": "shared"},
        {"labels": {"a": "b"}},
        {"correlationId": "c"},
        {"callback": {"url": "https://hr.example.com/h"}},
        {"input": {"days": 4}},
        {"type": "no.such"},
    ],
)
async def test_another_content_is_a_conflict(
    rig: Rig, client: httpx.AsyncClient, change: dict[str, Any]
) -> None:
    await client.post(PATH, json=ITEM, headers=KEY)
    assert (await client.post(PATH, json=ITEM | change, headers=KEY)).status_code == 409
    assert len(rig.gateway.commands) == 1


async def test_a_batch_of_old_and_new_items(rig: Rig, client: httpx.AsyncClient) -> None:
    old = ITEM | {"idempotencyKey": "k-1", "deadline": "2026-03-01T10:00:00Z"}
    first = await client.post(PATH, json=old)
    rig.clock["now_ms"] += 3_600_000
    mixed = await client.post(PATH, json=[ITEM, old, ITEM | {"idempotencyKey": "k-2"}])
    assert mixed.status_code == 202
    results = mixed.json()["results"]
    assert [one["replayed"] for one in results] == [False, True, False]
    assert results[1]["workflow"]["id"] == first.json()["id"]
    bad = await client.post(PATH, json=[old, {"type": "no.such"}])
    assert bad.status_code == 422
    assert bad.json()["errors"][0]["pointer"] == "/1/type"
    assert len(rig.gateway.commands) == 3


async def test_nothing_is_looked_up_without_need(rig: Rig, client: httpx.AsyncClient) -> None:
    for headers in ({}, KEY, KEY):
        assert (await client.post(PATH, json=ITEM, headers=headers)).status_code == 202
    assert (await client.post(PATH, json={"type": "no.such"})).status_code == 422
    assert rig.gateway.lookups == 0
