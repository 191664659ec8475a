"""What a user does with a server, one feature a test."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from typing import Any

import pytest

from orchx.client import Client
from orchx.client.models import Workflow
from tests.e2e import feature_definitions as documents
from tests.e2e.conditions import eventually
from tests.e2e.sandbox_ledger import SandboxLedger
from tests.e2e.server_process import ServerProcess

END_TIMEOUT_S = 30.0
# The evaluator's limit on one expression is half a second; the rest is two busy cores.
HOSTILE_LIMIT_S = 15.0


@pytest.fixture
def client(orchx_server: ServerProcess) -> Iterator[Client]:
    with orchx_server.client() as client:
        yield client


def _request(name: str, given: Any = None, **more: Any) -> dict[str, Any]:
    return {
        "definition": {"namespace": "e2e", "name": name},
        "input": given if given is not None else {},
        **more,
    }


def _passivated(client: Client, workflow_id: str) -> Workflow:
    """Return the workflow once it waits without an owner."""

    def look() -> Workflow | None:
        workflow = client.show(workflow_id)
        return workflow if workflow.passivated else None

    found = eventually(look, f"{workflow_id} passive", timeout_s=END_TIMEOUT_S)
    assert found is not None
    return found


def _completed(client: Client, workflow_id: str) -> Workflow:
    workflow = client.wait(workflow_id, timeout_s=END_TIMEOUT_S)
    assert workflow.status == "completed", workflow
    return workflow


def test_a_workflow_can_be_followed_from_its_first_event_to_its_last(client: Client) -> None:
    client.definitions.publish(documents.BRISK)
    begun = client.submit(_request("brisk", {"n": 1}))
    followed = list(client.follow(begun.id))
    offsets = [int(event.logoffset) for event in followed]
    assert offsets == sorted(set(offsets))
    assert followed[-1].type.endswith("workflow.completed.v1")
    assert [event.id for event in followed] == [event.id for event in client.history(begun.id)]


def test_waiting_tells_what_is_shown_afterwards(client: Client) -> None:
    submitted = client.submit(_request("brisk", correlationId="c-1"), wait_s=END_TIMEOUT_S)
    told = submitted.workflow
    assert told is not None
    assert (told.status, told.correlation_id) == ("completed", "c-1")
    assert told.epoch == 1
    assert told.tasks.completed > 0
    what = "the same from the projection"
    eventually(lambda: client.show(submitted.id) == told, what, timeout_s=END_TIMEOUT_S)


def test_following_goes_on_after_an_event_that_was_seen(client: Client) -> None:
    client.definitions.publish(documents.BRISK)
    begun = client.submit(_request("brisk", {"n": 2}), wait_s=END_TIMEOUT_S)
    events = list(client.follow(begun.id))
    later = list(client.follow(begun.id, after=int(events[2].logoffset)))
    assert [event.id for event in later] == [event.id for event in events[3:]]


@pytest.mark.parametrize("passive", [False, True])
def test_a_waiting_workflow_is_cancelled(client: Client, passive: bool) -> None:
    client.definitions.publish(documents.LISTENER)
    begun = client.submit(_request("listener", {"order": "cancelled"}))
    if passive:
        _passivated(client, begun.id)
    client.cancel(begun.id, reason="not needed any more")
    assert client.wait(begun.id, timeout_s=END_TIMEOUT_S).status == "cancelled"


def test_a_signal_wakes_a_passive_workflow_once(client: Client) -> None:
    client.definitions.publish(documents.LISTENER)
    begun = client.submit(_request("listener", {"order": "one"}))
    waiting = _passivated(client, begun.id)
    assert waiting.waiting is not None
    assert waiting.waiting.event_types == ("com.e2e.decision",)
    data = {"order": "one", "answer": "yes"}
    first = client.signal(begun.id, "com.e2e.decision", data, event_id="signal-1")
    again = client.signal(begun.id, "com.e2e.decision", data, event_id="signal-1")
    assert (first.replayed, again.replayed) == (False, True)
    assert _completed(client, begun.id).output == {"answer": "yes"}


def test_a_broadcast_wakes_everyone_it_is_meant_for_and_nobody_else(client: Client) -> None:
    client.definitions.publish(documents.LISTENER)
    key = f"broadcast-{time.time_ns()}"
    meant = [client.submit(_request("listener", {"order": key})).id for _ in range(10)]
    other = client.submit(_request("listener", {"order": f"not-{key}"})).id
    for workflow_id in meant[:5]:  # some of them have no owner at that time
        _passivated(client, workflow_id)
    client.broadcast("com.e2e.decision", {"order": key, "answer": "go"})
    assert [_completed(client, id_).output for id_ in meant] == [{"answer": "go"}] * 10
    assert not client.show(other).ended
    client.cancel(other)


def test_a_workflow_awaits_its_child_workflows(client: Client) -> None:
    client.definitions.publish(documents.CHILD)
    client.definitions.publish(documents.PARENT)
    begun = client.submit(_request("parent"))
    assert _completed(client, begun.id).output == [2, 4, 6]
    children = [w for w in client.list(name="child") if w.parent_id == begun.id]
    assert [child.status for child in children] == ["completed"] * 3


def test_running_workflows_keep_the_definition_that_they_began_with(client: Client) -> None:
    client.definitions.publish(documents.versioned("1.0.0"))
    old = client.submit(_request("changing")).id
    _passivated(client, old)
    client.definitions.publish(documents.versioned("1.1.0"))
    client.definitions.retire("e2e", "changing", "1.0.0")
    new = client.submit(_request("changing")).id
    for workflow_id in (old, new):
        client.signal(workflow_id, "com.e2e.go-on")
    assert _completed(client, old).output == {"version": "1.0.0"}
    assert _completed(client, new).output == {"version": "1.1.0"}


def test_a_hostile_expression_ends_its_workflow_and_harms_no_other(
    client: Client, orchx_server: ServerProcess
) -> None:
    client.definitions.publish(documents.BRISK)
    client.definitions.publish(documents.HOSTILE)
    begun_s = time.monotonic()
    hostile = [client.submit(_request("hostile")).id for _ in range(3)]

    async def others() -> list[Workflow | None]:
        async with orchx_server.async_client() as many:
            waits = [
                many.submit(_request("brisk", {"n": n}), wait_s=HOSTILE_LIMIT_S) for n in range(50)
            ]
            return [done.workflow for done in await asyncio.gather(*waits)]

    done = asyncio.run(others())
    others_s = time.monotonic() - begun_s
    assert [w.output for w in done if w is not None] == [{"said": n} for n in range(50)]
    ended = [client.wait(id_, timeout_s=HOSTILE_LIMIT_S) for id_ in hostile]
    took_s = time.monotonic() - begun_s
    print(f"\n50 others ended after {others_s:.1f} s, the hostile ones after {took_s:.1f} s")
    assert [w.status for w in ended] == ["faulted"] * 3
    assert all(w.error is not None and w.error.type.endswith("/expression") for w in ended)
    assert took_s < HOSTILE_LIMIT_S


def test_a_hanging_service_is_cut_at_the_tasks_timeout(
    client: Client, ledger: SandboxLedger
) -> None:
    client.definitions.publish(documents.IMPATIENT)
    ledger.disturb("mail", hang_rate=1, hang_s=10)
    begun = client.submit(_request("impatient", {"subject": "hang"}), wait_s=END_TIMEOUT_S)
    assert begun.workflow is not None
    assert begun.workflow.status == "faulted"
    assert begun.workflow.error is not None
    assert begun.workflow.error.type.endswith("/timeout")
    assert begun.workflow.ended_at is not None
    assert begun.workflow.created_at is not None
    lasted_s = (begun.workflow.ended_at - begun.workflow.created_at).total_seconds()
    assert 0.7 <= lasted_s < 5
