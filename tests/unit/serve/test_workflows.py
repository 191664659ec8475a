from __future__ import annotations

from dataclasses import replace
from typing import Any

import httpx
import pytest

from orchx.domain import events
from orchx.errors import Unavailable
from orchx.serve import answers
from tests.unit.serve.conftest import Rig

ITEM = {"type": "hr.leave", "input": {"days": 3}, "labels": {"country": "NO"}}
EVENT = {"specversion": "1.0", "id": "1", "source": "/hr", "type": "approved", "data": [1]}


async def _start(client: httpx.AsyncClient, **more: Any) -> str:
    response = await client.post("/v1/requests", json=ITEM | more)
    assert response.status_code == 202, response.text
    return str(response.headers["location"])


async def test_listing_pages_and_filters(client: httpx.AsyncClient) -> None:
    for tenant in ("hr", "it", "hr"):
        await _start(client, tenant=tenant)
    first = await client.get("/v1/workflows", params={"tenant": "hr", "limit": "1"})
    answers.Workflows.model_validate(first.json())
    (shown,) = first.json()["workflows"]
    assert "output" not in shown
    link = first.headers["link"]
    path = link.partition(">")[0].removeprefix("<")
    assert link.endswith('; rel="next"')
    second = await client.get(path)
    assert second.json()["workflows"][0]["id"] != shown["id"]
    assert second.json()["cursor"] is None
    assert "link" not in second.headers
    none = await client.get("/v1/workflows", params={"status": ["faulted", "running"]})
    assert none.json()["workflows"] == []
    labelled = await client.get("/v1/workflows", params={"label": "country=NO"})
    assert len(labelled.json()["workflows"]) == 3


async def test_no_stored_time_breaks_a_list(rig: Rig, client: httpx.AsyncClient) -> None:
    path = await _start(client)
    shown = await rig.gateway.show(path.rpartition("/")[2])
    year_10000_ms = 253_402_387_139_000
    await rig.gateway.states.save([replace(shown, deadline_ms=year_10000_ms)], offset=9)
    assert (await client.get(path)).json()["deadline"] == "9998-12-31T23:59:59.999Z"
    assert (await client.get("/v1/workflows")).status_code == 200
    first = await client.get("/v1/workflows", params={"createdAfter": "0001-01-01T00:00:00Z"})
    assert [one["pointer"] for one in first.json()["errors"]] == ["?createdAfter"]


@pytest.mark.parametrize("time", ["0001-01-01T00:00:00Z", "9999-12-31T23:59:59-23:59"])
async def test_an_events_time_is_passed_on_as_it_is(
    rig: Rig, client: httpx.AsyncClient, time: str
) -> None:
    rig.gateway.hold = True
    path = await _start(client)
    response = await client.post(f"{path}/events", json=EVENT | {"time": time})
    assert response.status_code == 202
    assert rig.gateway.commands[-1].event["time"] == time  # type: ignore[union-attr]


async def test_history_pages_and_knows_the_tasks_of_later_pages(
    rig: Rig, client: httpx.AsyncClient
) -> None:
    rig.gateway.hold = True
    path = await _start(client)
    workflow_id = path.rpartition("/")[2]
    rig.gateway.append(workflow_id, events.TaskCancelled(frame=2, reason="lost"))
    first = await client.get(f"{path}/history", params={"limit": "3"})
    assert first.headers["content-type"] == "application/cloudevents-batch+json"
    assert len(first.json()) == 3
    rest = await client.get(first.headers["link"].partition(">")[0].removeprefix("<"))
    (event,) = rest.json()
    assert event["type"] == "io.serverlessworkflow.task.cancelled.v1"
    assert event["taskreference"] == event["data"]["task"] == "/do/0/work"


async def test_the_stream_ends_after_the_last_event(client: httpx.AsyncClient) -> None:
    path = await _start(client)
    response = await client.get(f"{path}/events")
    assert response.headers["content-type"].startswith("text/event-stream")
    frames = response.text.strip().split("\n\n")
    assert frames[-1].startswith("id: 5\nevent: io.serverlessworkflow.workflow.completed.v1\n")
    resumed = await client.get(f"{path}/events?after=1", headers={"Last-Event-ID": "4"})
    assert len(resumed.text.strip().split("\n\n")) == 1
    over = await client.get(f"{path}/events", headers={"Last-Event-ID": "5"})
    assert over.status_code == 204
    wrong = await client.get(f"{path}/events", headers={"Last-Event-ID": "x"})
    assert wrong.status_code == 422


async def test_the_stream_sends_what_a_heartbeat_overtook(
    rig: Rig, client: httpx.AsyncClient
) -> None:
    rig.gateway.hold = True
    path = await _start(client)
    workflow_id = path.rpartition("/")[2]
    followed = rig.gateway.follow

    async def follow(workflow_id: str, *, after_offset: int = 0) -> Any:
        async for record in followed(workflow_id, after_offset=after_offset):
            if record is None:
                await rig.gateway.finish(workflow_id, 1)
            yield record

    rig.gateway.follow = follow  # type: ignore[method-assign]
    text = (await client.get(f"/v1/workflows/{workflow_id}/events")).text
    assert text.count(": heartbeat") == 1
    assert text.rstrip().split("\n\n")[-1].startswith("id: 5\n")


@pytest.mark.parametrize("kind", ["application/cloudevents+json", "application/json", "binary"])
async def test_an_event_is_the_same_command_however_it_comes(
    rig: Rig, client: httpx.AsyncClient, kind: str
) -> None:
    rig.gateway.hold = True
    path = await _start(client)
    if kind == "binary":
        ce = {f"ce-{name}": str(EVENT[name]) for name in ("specversion", "id", "source", "type")}
        headers = {**ce, "content-type": "application/json", "ce-subject": "caf%C3%A9"}
        responses = [
            await client.post(f"{path}/events", content=b"[1]", headers=headers) for _ in range(2)
        ]
    else:
        headers = {"content-type": kind}
        responses = [
            await client.post(f"{path}/events", json=EVENT, headers=headers) for _ in range(2)
        ]
    assert [one.status_code for one in responses] == [202, 202]
    assert responses[0].json()["commandId"] == responses[1].json()["commandId"]
    assert [one.json()["replayed"] for one in responses] == [False, True]
    event = rig.gateway.commands[-1].event  # type: ignore[union-attr]
    assert event["data"] == [1]
    if kind == "binary":
        assert event["subject"] == "café"


@pytest.mark.parametrize(
    "change",
    [
        {"specversion": "0.3"},
        {"id": ""},
        {"source": None},
        {"Upper": 1},
        {"ext": {}},
        {"ext": 2**31},
        {"data_base64": "AA=="},
        {"time": "now"},
    ],
)
async def test_what_is_no_cloud_event(client: httpx.AsyncClient, change: dict[str, Any]) -> None:
    response = await client.post("/v1/events", json=EVENT | change)
    assert response.status_code == 422


async def test_broadcasts_have_no_workflow(rig: Rig, client: httpx.AsyncClient) -> None:
    response = await client.post("/v1/events", json=EVENT)
    assert response.status_code == 202
    answers.CommandAccepted.model_validate(response.json())
    assert rig.gateway.commands[-1].workflow_id == ""


async def test_cancelling(rig: Rig, client: httpx.AsyncClient) -> None:
    path = await _start(client)
    assert (await client.post(f"{path}/cancel")).status_code == 409
    rig.gateway.hold = True
    path = await _start(client)
    first = await client.post(f"{path}/cancel", json={"reason": "no"})
    again = await client.post(f"{path}/cancel", json={"reason": "no"})
    assert (first.status_code, again.status_code) == (202, 202)
    assert again.json() == {**first.json(), "replayed": True}
    assert (await client.get(path)).json()["status"] == "cancelled"


@pytest.mark.parametrize("path", ["", "/history", "/events"])
async def test_workflows_that_do_not_exist(client: httpx.AsyncClient, path: str) -> None:
    assert (await client.get(f"/v1/workflows/wf_none{path}")).status_code == 404
    assert (await client.get(f"/v1/workflows/%00{path}")).status_code == 404


async def test_a_read_tells_its_age(rig: Rig, client: httpx.AsyncClient) -> None:
    path = await _start(client)
    shown = await client.get(path)
    answers.Workflow.model_validate(shown.json())
    assert (shown.json()["ageMs"], shown.headers["age"]) == (1_234, "1")
    rig.gateway.age_ms = None
    unknown = await client.get(path, params={"consistency": "eventual"})
    answers.Workflow.model_validate(unknown.json())
    assert unknown.json()["ageMs"] is None
    assert "age" not in unknown.headers
    ended = await client.post("/v1/requests", json=ITEM, params={"wait": "1"})
    assert ended.json()["ageMs"] == 0


async def test_a_strong_read_is_of_now_or_refused(rig: Rig, client: httpx.AsyncClient) -> None:
    path = await _start(client)
    shown = await client.get(path, params={"consistency": "strong"})
    assert (shown.json()["ageMs"], shown.headers["age"]) == (0, "0")
    rig.gateway.lagging = Unavailable("no strongly consistent read is possible now: it lags")
    refused = await client.get(path, params={"consistency": "strong"})
    assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
    assert refused.json()["type"] == "/problems/unavailable"
    assert "it lags" in refused.json()["detail"]
    assert (await client.get(path)).status_code == 200
    wrong = await client.get(path, params={"consistency": "serializable"})
    assert [one["pointer"] for one in wrong.json()["errors"]] == ["?consistency"]


async def test_a_strong_read_shows_nobody_what_is_not_theirs(rig: Rig) -> None:
    async with rig.client("admin") as admin:
        path = await _start(admin, tenant="it")
    async with rig.client("hr") as stranger:
        for consistency in ("strong", "eventual"):
            answer = await stranger.get(path, params={"consistency": consistency})
            assert answer.status_code == 404
