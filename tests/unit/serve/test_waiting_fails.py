"""What is stored will run: no failure to tell its end makes the answer one of failure."""

from __future__ import annotations

import httpx
import pytest

from orchx.errors import DriverError, NoAnswer, OrchxError, Unavailable
from orchx.ports.state_store import WorkflowSummary
from orchx.serve import answers
from tests.unit.serve.conftest import Rig

ITEM = {"type": "hr.leave", "input": {"days": 3}}
PATH = "/v1/requests"
FAILURES = [Unavailable("the projector restarts"), NoAnswer("silence"), DriverError("disk")]


@pytest.fixture(params=FAILURES, ids=lambda error: type(error).__name__)
def failing(
    request: pytest.FixtureRequest, rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> OrchxError:
    """Let the gateway accept requests, and be unable to say anything about them."""

    async def fail(workflow_id: str, timeout_s: float = 0.0) -> WorkflowSummary:
        raise request.param

    rig.gateway.hold = True
    monkeypatch.setattr(rig.gateway, "wait", fail)
    monkeypatch.setattr(rig.gateway, "show", fail)
    error: OrchxError = request.param
    return error


async def test_a_stored_request_whose_end_cannot_be_told_is_accepted(
    failing: OrchxError, rig: Rig, client: httpx.AsyncClient
) -> None:
    response = await client.post(PATH, params={"wait": "5"}, json=ITEM)
    assert response.status_code == 202
    accepted = answers.Accepted.model_validate(response.json())
    assert [command.id for command in rig.gateway.commands] == [accepted.id]


async def test_a_repetition_whose_state_cannot_be_told_is_accepted_too(
    failing: OrchxError, rig: Rig, client: httpx.AsyncClient
) -> None:
    key = {"Idempotency-Key": "k"}
    first = await client.post(PATH, json=ITEM, headers=key)
    for params in ({}, {"wait": "5"}):
        again = await client.post(PATH, params=params, json=ITEM, headers=key)
        assert (again.status_code, again.json()["id"]) == (202, first.json()["id"])
        assert again.headers["idempotency-replayed"] == "true"
    assert len(rig.gateway.commands) == 1
