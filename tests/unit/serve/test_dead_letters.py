"""Dead letters over HTTP: who may see them, what a replay does, and where there are none."""

from __future__ import annotations

import base64
from collections import Counter
from typing import Any

import httpx
import pytest

from orchx.domain.messages import CancelWorkflow
from orchx.errors import Overloaded, Unavailable
from orchx.ports.dead_letters import SourceRecord
from orchx.serve import dead_letter_bodies as bodies
from orchx.testing.memory_dead_letters import MemoryDeadLetters
from tests.unit.serve.conftest import NOW_MS, Rig

PATH = "/v1/dead-letters"
COMMAND = '{"kind":"cancel","id":"c%d","workflow_id":"w","created_at_ms":7}'


async def _keep(rig: Rig, offset: int, value: bytes | None, topic: str = "orchx.commands") -> None:
    assert rig.gateway.dead_letters is not None
    record = SourceRecord(
        topic=topic,
        partition=2,
        offset=offset,
        at_ms=NOW_MS,
        key=b"w\xff",
        value=value,
        headers=[("epoch", b"1")],
    )
    await rig.gateway.dead_letters.keep(record, "malformed")


@pytest.fixture
def submitted(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Take commands as the queue does, and do nothing with them."""
    ids: list[str] = []

    async def submit(commands: list[CancelWorkflow]) -> Any:
        accepted = await rig.gateway.queue.put(commands)
        ids.extend(c.id for c, a in zip(commands, accepted, strict=True) if not a.duplicate)
        return accepted

    monkeypatch.setattr(rig.gateway, "submit", submit)
    return ids


async def test_listing_and_showing(rig: Rig, client: httpx.AsyncClient) -> None:
    for offset in range(3):
        await _keep(rig, offset, b"poison \xff")
    page = await client.get(PATH, params={"limit": "2"})
    bodies.DeadLetterList.model_validate(page.json())
    assert [one["offset"] for one in page.json()["deadLetters"]] == [0, 1]
    assert page.json()["deadLetters"][0]["preview"] == "poison �"
    rest = await client.get(page.headers["link"].partition(">")[0].removeprefix("<"))
    assert [one["offset"] for one in rest.json()["deadLetters"]] == [2]
    assert rest.json()["after"] is None
    assert "link" not in rest.headers
    shown = await client.get(f"{PATH}/1")
    bodies.DeadLetterShown.model_validate(shown.json())
    assert base64.b64decode(shown.json()["value"]["base64"]) == b"poison \xff"
    assert shown.json()["headers"] == [{"name": "epoch", "value": {"text": "1", "base64": None}}]
    for number in ("9", "-1", "x", "1" * 30, "²"):
        assert (await client.get(f"{PATH}/{number}")).status_code == 404


async def test_a_replay_runs_each_command_once_and_says_why_not(
    rig: Rig, client: httpx.AsyncClient, submitted: list[str]
) -> None:
    await _keep(rig, 0, b"poison")
    await _keep(rig, 1, (COMMAND % 1).encode())
    await _keep(rig, 2, (COMMAND % 2).encode(), topic="orchx.events")
    answer = await client.post(f"{PATH}/replay", json={"numbers": [0, 1, 2, 7, 1]})
    bodies.LettersReplayed.model_validate(answer.json())
    results = {one["number"]: one for one in answer.json()["results"]}
    assert len(answer.json()["results"]) == 4
    assert results[1] == {"number": 1, "commandId": "c1", "replayed": False, "error": None}
    assert "no command of this release" in results[0]["error"]
    assert "orchx.events holds no commands" in results[2]["error"]
    assert "there is no dead letter 7" in results[7]["error"]
    again = await client.post(f"{PATH}/replay", json={"numbers": [1]})
    assert again.json()["results"][0]["replayed"] is True
    assert submitted == ["c1"]
    left = (await client.get(PATH)).json()["deadLetters"]
    assert [one["number"] for one in left] == [0, 2]
    everything = (await client.get(PATH, params={"handled": "true"})).json()["deadLetters"]
    marks = [one["handled"] for one in everything]
    assert (marks[1]["how"], marks[1]["note"]) == ("replayed", "command c1")
    assert marks[1]["by"] == rig.tokens["admin"].split("_")[1]  # the key's id


async def test_a_mended_command_goes_in_place_of_what_was_kept(
    rig: Rig, client: httpx.AsyncClient, submitted: list[str]
) -> None:
    await _keep(rig, 0, b"poison")
    await _keep(rig, 1, b"poison")
    both = await client.post(f"{PATH}/replay", json={"numbers": [0, 1], "value": COMMAND % 5})
    assert [one["pointer"] for one in both.json()["errors"]] == ["/value"]
    wrong = await client.post(f"{PATH}/replay", json={"numbers": [0], "value": "{}"})
    assert "no command of this release" in wrong.json()["results"][0]["error"]
    answer = await client.post(f"{PATH}/replay", json={"numbers": [0], "value": COMMAND % 5})
    assert answer.json()["results"][0]["commandId"] == "c5"
    assert submitted == ["c5"]
    shown = (await client.get(f"{PATH}/0")).json()
    assert shown["handled"]["note"] == "command c5, with another value"
    assert shown["value"]["text"] == "poison"


@pytest.mark.parametrize(("error", "status"), [(Unavailable("full"), 503), (Overloaded("f"), 429)])
async def test_what_cannot_be_taken_now_stays_listed(
    rig: Rig, client: httpx.AsyncClient, error: Exception, status: int
) -> None:
    await _keep(rig, 0, (COMMAND % 1).encode())
    rig.gateway.full = error
    answer = await client.post(f"{PATH}/replay", json={"numbers": [0]})
    assert answer.status_code == status
    assert len((await client.get(PATH)).json()["deadLetters"]) == 1


async def test_what_was_dropped_needs_nothing_more(rig: Rig, client: httpx.AsyncClient) -> None:
    reached = Counter[str]()

    async def on_io(point: str) -> None:
        reached[point] += 1

    rig.gateway.dead_letters = MemoryDeadLetters(on_io)
    for offset in range(3):
        await _keep(rig, offset, b"poison")
    body = {"numbers": [0, 2, 9], "reason": "a test wrote it"}
    assert (await client.post(f"{PATH}/drop", json=body)).json() == {"dropped": 2}
    assert reached["dead_letters.mark:after"] == 1  # durable once for all, not once for each
    assert [one["number"] for one in (await client.get(PATH)).json()["deadLetters"]] == [1]
    assert (await client.get(f"{PATH}/0")).json()["handled"]["note"] == "a test wrote it"


@pytest.mark.parametrize("key", ["submit", "read", "operate", "hr", "hr-admin", "admin"])
async def test_who_may_do_what(rig: Rig, key: str) -> None:
    await _keep(rig, 0, b"poison")
    async with rig.client(key) as client:
        seen = await client.get(PATH)
        shown = await client.get(f"{PATH}/0")
        dropped = await client.post(f"{PATH}/drop", json={"numbers": [0]})
        replayed = await client.post(f"{PATH}/replay", json={"numbers": [0]})
    may = 200 if key in ("operate", "admin") else 403
    assert [one.status_code for one in (seen, shown, dropped)] == [may] * 3
    assert replayed.status_code == (200 if key == "admin" else 403)


async def test_where_none_are_kept_the_answer_says_so(rig: Rig, client: httpx.AsyncClient) -> None:
    rig.gateway.dead_letters = None
    page = await client.get(PATH)
    bodies.DeadLetterList.model_validate(page.json())
    assert page.json() == {"kept": False, "deadLetters": [], "after": None, "unread": 0}
    answers = [
        await client.get(f"{PATH}/0"),
        await client.post(f"{PATH}/replay", json={"numbers": [0]}),
        await client.post(f"{PATH}/drop", json={"numbers": [0]}),
    ]
    assert [one.status_code for one in answers] == [404] * 3
    assert all("keeps no dead letters" in one.json()["detail"] for one in answers)
