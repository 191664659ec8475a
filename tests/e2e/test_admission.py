"""A server with little room: refusals that say when to come back, and who goes first."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import pytest

from orchx.client import Client
from orchx.client.retries import RetryPolicy
from orchx.domain.events import WorkflowActivated
from orchx.errors import InvalidRequest, Overloaded, Unavailable
from tests.e2e import feature_definitions as documents
from tests.e2e.checker import read_log
from tests.e2e.conditions import eventually
from tests.e2e.sandbox_ledger import SandboxLedger
from tests.e2e.server_process import ServerProcess

BACKLOG = 20
RUNNING = 2
HOLD_MS = 800
END_TIMEOUT_S = 60.0
AT_ONCE = RetryPolicy(limit=0)


@pytest.fixture(scope="module")
def small_server(
    services_file: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ServerProcess]:
    """A server whose backlog is soon full."""
    server = ServerProcess(
        tmp_path_factory.mktemp("small"),
        arguments=("--services", str(services_file), "--dedicated", "1"),
        environment={
            "ORCHX_ADMISSION__BACKLOG_LIMIT": str(BACKLOG),
            "ORCHX_ADMISSION__RUNNING_LIMIT": str(RUNNING),
        },
        authentication=True,
    )
    try:
        server.start()
        yield server
        server.stop()
    finally:
        server.kill()


@pytest.fixture
def client(small_server: ServerProcess, ledger: SandboxLedger) -> Iterator[Client]:
    """A client that does not try again, of a server whose workflows last a while."""
    ledger.disturb("mail", latency_ms=HOLD_MS)
    with small_server.client(retries=AT_ONCE) as client:
        client.definitions.publish(documents.HOLDING)
        yield client
        _nothing_left(client)


def _request(name: str, **more: Any) -> dict[str, Any]:
    definition = {"namespace": "e2e", "name": "holding"}
    return {"definition": definition, "input": {"name": name}, **more}


def _fill(client: Client, tenant: str) -> tuple[list[str], Overloaded | Unavailable]:
    """Submit until it is refused; return what was taken, and the refusal."""
    taken: list[str] = []
    for number in range(2 * BACKLOG):
        request = _request(f"{tenant}-{number}", tenant=tenant, isolation="shared")
        try:
            taken.append(client.submit(request).id)
        except (Overloaded, Unavailable) as refusal:
            return taken, refusal
    raise AssertionError(f"{2 * BACKLOG} requests were taken, and none was refused")


def _nothing_left(client: Client) -> None:
    def look() -> bool:
        return not list(client.list(status=["pending", "running", "waiting"]))

    eventually(look, "the end of everything", timeout_s=END_TIMEOUT_S, poll_s=0.1)


def test_without_a_key_nothing_is_told(small_server: ServerProcess) -> None:
    answer = httpx.get(f"{small_server.url}/v1/workflows")
    assert answer.status_code == 401
    assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize(
    ("query_bytes", "header_bytes", "status"), [(50_000, 0, 414), (0, 50_000, 431)]
)
def test_a_long_head_is_refused_by_the_application_and_not_by_the_ingress(
    small_server: ServerProcess, query_bytes: int, header_bytes: int, status: int
) -> None:
    answer = httpx.get(
        f"{small_server.url}/v1/deliveries?cursor={'x' * query_bytes}",
        headers={"x-long": "x" * header_bytes},
        timeout=10,
    )
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.slow
def test_a_full_backlog_refuses_with_the_time_to_come_back_and_then_takes_again(
    client: Client,
) -> None:
    one, refusal = _fill(client, "one")
    assert isinstance(refusal, Overloaded)
    assert refusal.retry_after_s >= 1
    two, refusal = _fill(client, "two")
    assert refusal.retry_after_s >= 1
    with pytest.raises(Unavailable) as full:
        client.submit(_request("three", tenant="three"))
    assert full.value.retry_after_s >= 1
    print(f"\ntaken: {len(one)} of tenant one, {len(two)} of tenant two")
    assert len(one) + len(two) <= BACKLOG + RUNNING + 4

    def taken_again() -> bool:
        try:
            client.submit(_request("later", tenant="three"))
        except (Overloaded, Unavailable):
            return False
        return True

    eventually(taken_again, "room", timeout_s=END_TIMEOUT_S, poll_s=0.2)
    assert all(client.wait(id_, timeout_s=60).status == "completed" for id_ in (*one, *two))


@pytest.mark.slow
def test_the_more_urgent_goes_first_then_the_earlier_deadline(
    client: Client, small_server: ServerProcess
) -> None:
    now = datetime.now(UTC)
    first = [client.submit(_request(f"first-{n}", isolation="shared")).id for n in range(RUNNING)]
    wishes: dict[str, dict[str, Any]] = {
        "later": {"priority": 9},
        "due-late": {"priority": 3, "deadline": (now + timedelta(hours=2)).isoformat()},
        "due-soon": {"priority": 3, "deadline": (now + timedelta(hours=1)).isoformat()},
        "urgent": {"priority": 1},
    }
    batch = client.submit_batch(
        [_request(name, isolation="shared", **wish) for name, wish in wishes.items()]
    )
    ids = {submission.id: name for submission, name in zip(batch, wishes, strict=True)}
    for workflow_id in (*first, *ids):
        assert client.wait(workflow_id, timeout_s=END_TIMEOUT_S).status == "completed"
    log = read_log(small_server.data / "events.db")
    begun = sorted((log[id_][0].offset, name) for id_, name in ids.items())
    assert [name for _, name in begun] == ["urgent", "due-soon", "due-late", "later"]


def test_a_deadline_ends_a_workflow(client: Client) -> None:
    now = datetime.now(UTC)
    now = now.replace(microsecond=now.microsecond // 1000 * 1000)  # as exact as deadlines are
    deadline = now + timedelta(milliseconds=500)
    begun = client.submit(_request("too-late", deadline=deadline.isoformat()), wait_s=20)
    assert begun.workflow is not None
    assert begun.workflow.status == "faulted"
    assert begun.workflow.error is not None
    assert begun.workflow.error.type.endswith("/timeout")
    assert begun.workflow.ended_at is not None
    late_s = (begun.workflow.ended_at - deadline).total_seconds()
    assert 0 <= late_s < 1
    with pytest.raises(InvalidRequest):
        client.submit(_request("past", deadline="2020-01-01T00:00:00Z"))


@pytest.mark.slow
def test_dedicated_workflows_have_an_owner_to_themselves(
    client: Client, small_server: ServerProcess
) -> None:
    begun_s = time.monotonic()
    alone = [client.submit(_request(f"alone-{n}", isolation="dedicated")).id for n in range(2)]
    critical = client.submit(_request("critical", priority=0)).id
    shared = client.submit(_request("shared", isolation="shared")).id
    assert client.wait(shared, timeout_s=END_TIMEOUT_S).status == "completed"
    for workflow_id in (*alone, critical):
        assert client.wait(workflow_id, timeout_s=END_TIMEOUT_S).status == "completed"
    assert time.monotonic() - begun_s >= 3 * HOLD_MS / 1000, "they had an owner at once"
    log = read_log(small_server.data / "events.db")
    spans = []
    for workflow_id in (*alone, critical):
        records = log[workflow_id]
        owners = {r.owner for r in records if isinstance(r.event, WorkflowActivated)}
        assert all(owner.startswith("owner-dedicated-0") for owner in owners)
        spans.append((records[0].offset, records[-1].offset))
    assert all(earlier[1] < later[0] for earlier, later in pairwise(sorted(spans)))
    assert log[shared][0].owner.startswith("owner-shared-0")
