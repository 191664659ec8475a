"""Both faces against a scripted transport: what goes over the wire, and what comes back."""

from __future__ import annotations

import asyncio
import inspect
import json
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from orchx.client import AsyncClient, Client, RetryPolicy, WorkflowRequest
from orchx.client.models import DefinitionRef
from orchx.errors import (
    Bug,
    CallerError,
    Conflict,
    DriverError,
    InvalidDocument,
    InvalidRequest,
    NotFound,
    OrchxError,
    Overloaded,
    StorageFull,
    Unauthenticated,
    Unavailable,
)

Answer = httpx.Response | Exception
WORKFLOW = {"id": "wf_1", "status": "completed", "namespace": "hr", "name": "onboarding"}
QUICK = RetryPolicy(first_delay_s=0.0, jitter=lambda: 0.0)


class Server:
    """Answers in the order of the script, and remembers what it was asked."""

    def __init__(self, *answers: Answer | Callable[[httpx.Request], httpx.Response]) -> None:
        self.answers = list(answers)
        self.requests: list[httpx.Request] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer if isinstance(answer, httpx.Response) else answer(request)

    def client(self, **options: Any) -> Client:
        return Client("http://orchx", transport=httpx.MockTransport(self), **options)


def problem(slug: str, status: int, *errors: dict[str, Any], **headers: str) -> httpx.Response:
    document = {
        "type": f"/problems/{slug}",
        "title": slug,
        "status": status,
        "detail": f"about {slug}",
        "traceId": "4bf9",
        "errors": errors,
    }
    headers = {name.replace("_", "-"): value for name, value in headers.items()}
    return httpx.Response(
        status, json=document, headers={"Content-Type": "application/problem+json", **headers}
    )


def accepted(**headers: str) -> httpx.Response:
    return httpx.Response(202, json={"id": "wf_1", "status": "pending"}, headers=headers)


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ORCHX_URL", raising=False)
    monkeypatch.delenv("ORCHX_API_KEY", raising=False)


def test_submit_sends_what_the_api_calls_for() -> None:
    server = Server(accepted())
    request = WorkflowRequest(
        definition=DefinitionRef(namespace="hr", name="onboarding"),
        input={"employee": "Ada"},
        correlation_id="HR-1",
    )
    with server.client(api_key="orx_1_s") as client:
        done = client.submit(request)
    (sent,) = server.requests
    assert (sent.method, sent.url.path) == ("POST", "/v1/requests")
    assert json.loads(sent.content) == {
        "definition": {"namespace": "hr", "name": "onboarding"},
        "input": {"employee": "Ada"},
        "correlationId": "HR-1",
    }
    assert sent.headers["authorization"] == "Bearer orx_1_s"
    assert sent.headers["idempotency-key"] == done.idempotency_key
    assert (done.id, done.status, done.replayed, done.workflow) == ("wf_1", "pending", False, None)


def test_an_explicit_null_input_is_sent() -> None:
    server = Server(accepted())
    server.client().submit(WorkflowRequest(type="hr.onboarding", input=None))
    assert json.loads(server.requests[0].content) == {"type": "hr.onboarding", "input": None}


def test_the_key_survives_retries() -> None:
    broken = httpx.ReadError("reset")
    full = problem("too-many-requests", 503, Retry_After="0")
    server = Server(broken, full, accepted(**{"Idempotency-Replayed": "true"}))
    done = server.client(retries=QUICK).submit({"type": "a.b"}, key="k")
    assert done.replayed
    assert len({request.headers["idempotency-key"] for request in server.requests}) == 1
    assert len(server.requests) == 3


def test_the_keys_that_are_given_are_kept() -> None:
    server = Server(accepted(), accepted())
    client = server.client()
    client.submit({"type": "a.b"}, key="mine")
    client.submit({"type": "a.b", "idempotencyKey": "inside"})
    keys = [request.headers["idempotency-key"] for request in server.requests]
    assert keys == ["mine", "inside"]
    with pytest.raises(InvalidRequest, match="visible ASCII"):
        client.submit({"type": "a.b"}, key="not visible")


def test_submit_waits_on_the_server_first_and_then_by_asking() -> None:
    server = Server(
        accepted(),
        httpx.Response(200, json={**WORKFLOW, "status": "running"}),
        httpx.Response(200, json={**WORKFLOW, "output": {"a": 1}}),
    )
    done = server.client().submit({"type": "a.b"}, wait_s=90)
    assert server.requests[0].url.params["wait"] == "60"
    assert server.requests[0].extensions["timeout"]["read"] > 60
    assert done.workflow is not None
    assert (done.status, done.workflow.output) == ("completed", {"a": 1})


def test_submit_returns_what_ended_within_the_servers_wait() -> None:
    server = Server(httpx.Response(200, json=WORKFLOW))
    done = server.client().submit({"type": "a.b"}, wait_s=1)
    assert done.workflow is not None
    assert done.workflow.ended
    assert len(server.requests) == 1


def test_wait_gives_the_workflow_as_it_is_when_time_is_up() -> None:
    server = Server(httpx.Response(200, json={**WORKFLOW, "status": "waiting"}))
    assert not server.client().wait("wf_1", timeout_s=0).ended


def test_submit_batch_keeps_the_order() -> None:
    results = [
        {"status": 202, "replayed": n == 1, "workflow": {"id": f"wf_{n}", "status": "pending"}}
        for n in range(2)
    ]
    server = Server(httpx.Response(202, json={"results": results}))
    client = server.client()
    one, two = client.submit_batch([{"type": "a.b"}, WorkflowRequest(type="c.d")], key="k")
    assert (one.id, one.replayed, two.id, two.replayed) == ("wf_0", False, "wf_1", True)
    assert json.loads(server.requests[0].content) == [{"type": "a.b"}, {"type": "c.d"}]


def test_a_batch_whose_answer_is_none_leaves_its_key() -> None:
    server = Server(httpx.Response(202, text="<html>"))
    with pytest.raises(DriverError) as caught:
        server.client().submit_batch([{"type": "a.b"}])
    assert caught.value.idempotency_key == server.requests[0].headers["idempotency-key"]


def _page(*ids: str, following: str | None = None) -> httpx.Response:
    headers = {} if following is None else {"Link": f'<{following}>; rel="next"'}
    workflows = [{**WORKFLOW, "id": each} for each in ids]
    return httpx.Response(200, json={"workflows": workflows, "cursor": None}, headers=headers)


def test_list_turns_pages_as_they_are_needed() -> None:
    server = Server(_page("wf_3", "wf_2", following="/v1/workflows?status=completed&cursor=x%2By"))
    found = server.client().list(status=["completed", "faulted"], label={"country": "NO"})
    assert next(found).id == "wf_3"
    assert len(server.requests) == 1
    assert server.requests[0].url.params.multi_items() == [
        ("status", "completed"),
        ("status", "faulted"),
        ("label", "country=NO"),
        ("limit", "500"),
    ]
    server.answers.append(_page("wf_1"))
    assert [workflow.id for workflow in found] == ["wf_2", "wf_1"]
    assert server.requests[1].url.params.multi_items() == [
        ("status", "completed"),
        ("cursor", "x+y"),
    ]


def test_list_stops_at_its_limit() -> None:
    server = Server(_page("wf_3", "wf_2", following="/v1/workflows?cursor=x"))
    assert [workflow.id for workflow in server.client().list(limit=2)] == ["wf_3", "wf_2"]
    assert not list(server.client().list(limit=0))
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("slug", "status", "error"),
    [
        ("invalid-request", 422, InvalidRequest),
        ("invalid-workflow-document", 422, InvalidDocument),
        ("bad-request", 400, CallerError),
        ("not-found", 404, NotFound),
        ("conflict", 409, Conflict),
        ("unauthenticated", 401, Unauthenticated),
        ("too-many-requests", 429, Overloaded),
        ("too-many-requests", 503, Overloaded),
        ("unavailable", 503, Unavailable),
        ("storage-or-transport-failure", 503, Unavailable),
        ("internal-error", 500, Bug),
        ("storage-full", 507, StorageFull),
    ],
)
def test_problems_become_errors(slug: str, status: int, error: type[Exception]) -> None:
    server = Server(problem(slug, status))
    with pytest.raises(error, match=f"about {slug}") as caught:
        server.client(retries=RetryPolicy(limit=0)).show("wf_1")
    assert type(caught.value) is error


def test_violations_say_where() -> None:
    fault = {"pointer": "/priority", "detail": "is too high", "found": "12", "expected": "0 to 9"}
    server = Server(problem("invalid-request", 422, {**fault, "line": 3}))
    with pytest.raises(InvalidRequest) as caught:
        server.client().submit({"type": "a.b", "priority": 12})
    assert str(caught.value) == (
        "about invalid-request\n  /priority (line 3): is too high; expected 0 to 9, found 12"
    )


def test_retries_end_and_tell_when_to_come_back() -> None:
    server = Server(*[problem("too-many-requests", 429, Retry_After="1") for _ in range(9)])
    patience = RetryPolicy(limit=2, first_delay_s=0.0, max_delay_s=0.5)
    with pytest.raises(Overloaded) as caught:
        server.client(retries=patience).show("wf_1")
    assert caught.value.retry_after_s == 1.0
    assert len(server.requests) == 1, "what asks for more patience than there is goes to the caller"


def test_a_server_out_of_reach_is_tried_a_few_times() -> None:
    server = Server(*[httpx.ConnectError("connection refused") for _ in range(9)])
    with pytest.raises(Unavailable, match="http://orchx cannot be reached: connection refused"):
        server.client(retries=RetryPolicy(limit=2, first_delay_s=0.0)).show("wf_1")
    assert len(server.requests) == 3


def test_a_silent_server_is_not_asked_again() -> None:
    server = Server(httpx.ReadTimeout("slow"))
    with pytest.raises(Unavailable, match="did not answer in time"):
        server.client(retries=QUICK).show("wf_1")
    assert len(server.requests) == 1


def test_a_submission_is_sent_again_with_its_key_to_a_silent_server() -> None:
    silence = httpx.ReadTimeout("slow")
    server = Server(silence, silence, accepted(**{"Idempotency-Replayed": "true"}))
    done = server.client(retries=QUICK).submit({"type": "a.b"})
    assert not done.replayed, "it was this call that started it"
    keys = [request.headers["idempotency-key"] for request in server.requests]
    assert keys == [done.idempotency_key] * 3


FAILURES = (httpx.ReadTimeout("slow"), httpx.ReadError("reset"), httpx.Response(500))


@pytest.mark.parametrize("failure", FAILURES)
def test_a_submission_that_fails_leaves_its_key(failure: Answer) -> None:
    server = Server(*[failure] * 4)
    client = server.client(retries=RetryPolicy(limit=1, first_delay_s=0.0))
    with pytest.raises(OrchxError) as caught:
        client.submit({"type": "a.b"})
    assert caught.value.idempotency_key == server.requests[-1].headers["idempotency-key"]
    with pytest.raises(OrchxError) as caught:
        client.submit_batch([{"type": "a.b"}])
    assert caught.value.idempotency_key == server.requests[-1].headers["idempotency-key"]
    assert len({request.headers["idempotency-key"] for request in server.requests}) == 2


def test_the_key_is_left_too_when_waiting_fails() -> None:
    server = Server(accepted(), httpx.ReadTimeout("slow"))
    with pytest.raises(Unavailable) as caught:
        server.client().submit({"type": "a.b"}, key="mine", wait_s=90)
    assert caught.value.idempotency_key == "mine"


async def test_the_async_face_leaves_the_key_too() -> None:
    server = Server(*[httpx.ReadTimeout("slow") for _ in range(2)])
    transport = httpx.MockTransport(server)
    policy = RetryPolicy(limit=1, first_delay_s=0.0)
    async with AsyncClient("http://orchx", transport=transport, retries=policy) as client:
        with pytest.raises(Unavailable) as caught:
            await client.submit({"type": "a.b"})
    keys = {request.headers["idempotency-key"] for request in server.requests}
    assert (keys, len(server.requests)) == ({caught.value.idempotency_key}, 2)


def test_the_delay_grows_within_bounds_and_respects_the_server() -> None:
    policy = RetryPolicy(limit=10, first_delay_s=1.0, max_delay_s=4.0, jitter=lambda: 0.0)
    assert [policy.delay_s(retry) for retry in (1, 2, 3, 4)] == [1.0, 2.0, 4.0, 4.0]
    assert policy.delay_s(1, 3.0) == 3.0
    assert policy.delay_s(1, 5.0) is None
    assert policy.delay_s(11) is None
    jittered = RetryPolicy(first_delay_s=1.0, jitter=lambda: 1.0).delay_s(1, 2.0)
    assert jittered is not None
    assert jittered > 2.0, "jitter only ever adds: never earlier than Retry-After"


@pytest.mark.parametrize("body", [b"<html>hello</html>", b"[]", b"\xff", b""])
def test_another_server_is_recognised(body: bytes) -> None:
    server = Server(httpx.Response(200, content=body))
    with pytest.raises(DriverError, match="is the URL right"):
        server.client().show("wf_1")


def test_an_error_without_a_problem_document_is_shown() -> None:
    server = Server(httpx.Response(404, content=b"no   such\nthing"))
    with pytest.raises(NotFound, match="the server answered 404: no such thing"):
        server.client().show("wf_1")


@pytest.mark.parametrize("bad", ["", ".", ".."])
def test_an_id_cannot_lead_elsewhere(bad: str) -> None:
    server = Server()
    with pytest.raises(InvalidRequest):
        server.client().show(bad)
    server.answers.append(httpx.Response(200, json=WORKFLOW))
    server.client().show("../v1/x?y#z")
    assert server.requests[0].url.raw_path == b"/v1/workflows/..%2Fv1%2Fx%3Fy%23z"


def test_signal_sends_one_cloud_event() -> None:
    receipt = {"commandId": "ev_1", "replayed": False}
    server = Server(httpx.Response(202, json=receipt), httpx.Response(202, json=receipt))
    client = server.client()
    assert client.signal("wf_1", "approved", {"by": "Bo"}, event_id="e1").command_id == "ev_1"
    client.broadcast("approved")
    one, two = (json.loads(request.content) for request in server.requests)
    assert (one["id"], one["type"], one["data"]) == ("e1", "approved", {"by": "Bo"})
    assert "data" not in two
    assert server.requests[0].headers["content-type"] == "application/cloudevents+json"
    assert server.requests[1].url.path == "/v1/events"


def test_definitions_are_published_as_written() -> None:
    answer = {"namespace": "hr", "name": "a", "version": "1.0.0", "dryRun": True}
    server = Server(httpx.Response(200, json=answer), httpx.Response(204))
    client = server.client()
    assert client.definitions.publish("do: []", request_type="a.b", dry_run=True).dry_run
    client.definitions.retire("hr", "a", "1.0.0")
    sent = server.requests[0]
    assert sent.content == b"do: []"
    assert sent.headers["content-type"] == "application/yaml"
    assert str(sent.url.query, "ascii") == "requestType=a.b&dryRun=true"
    assert server.requests[1].method == "DELETE"


def test_ready_tells_the_parts_that_are_not() -> None:
    document = {"type": "/problems/unavailable", "status": 503, "parts": {"queue": "starting"}}
    headers = {"Content-Type": "application/problem+json", "Date": "Mon, 02 Mar 2026 09:30:00 GMT"}
    server = Server(httpx.Response(503, json=document, headers=headers))
    state = server.client().ready()
    assert (state.ready, state.parts) == (False, {"queue": "starting"})
    assert state.server_time is not None
    assert state.server_time.isoformat() == "2026-03-02T09:30:00+00:00"


@pytest.mark.parametrize("date", ["soon", "Mon, 01 Jan 99999999999999999999 00:00:00 GMT"])
def test_a_server_whose_date_is_none_is_ready_all_the_same(date: str) -> None:
    server = Server(httpx.Response(200, json={"ready": True}, headers={"Date": date}))
    state = server.client().ready()
    assert (state.ready, state.server_time) == (True, None)


def test_deliveries_come_page_by_page() -> None:
    def page(*ids: str, **headers: str) -> httpx.Response:
        rows = [{"id": each, "workflowId": "wf_1", "status": "pending"} for each in ids]
        return httpx.Response(200, json={"deliveries": rows}, headers=headers)

    server = Server(page("a", "b", Link='</v1/deliveries?limit=500&cursor=x>; rel="next"'))
    found = server.client().deliveries.list(workflow="wf_1")
    assert next(found).id == "a"
    server.answers.append(page("c"))
    assert [each.id for each in found] == ["b", "c"]
    assert [str(request.url.query, "ascii") for request in server.requests] == [
        "workflow=wf_1&limit=500",
        "limit=500&cursor=x",
    ]


def test_what_json_cannot_hold_is_refused_here() -> None:
    with pytest.raises(InvalidRequest, match="cannot be written as JSON"):
        Server().client().submit({"type": "a.b", "input": object()})


def test_url_and_key_come_from_the_environment_at_construction(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("ORCHX_URL", "http://elsewhere:1/")
    monkeypatch.setenv("ORCHX_API_KEY", "orx_env")
    server = Server(httpx.Response(200, json=WORKFLOW))
    Client(transport=httpx.MockTransport(server)).show("wf_1")
    assert str(server.requests[0].url) == "http://elsewhere:1/v1/workflows/wf_1"
    assert server.requests[0].headers["authorization"] == "Bearer orx_env"


@pytest.mark.parametrize("url", ["localhost:8600", "ftp://x", "http://", "http://x?y", "http://[:"])
def test_a_wrong_url_is_refused(url: str) -> None:
    with pytest.raises(InvalidRequest, match="URL is wrong"):
        Client(url)


def _operations(face: type) -> Iterator[tuple[str, inspect.Signature]]:
    for name, member in inspect.getmembers(face, callable):
        if not name.startswith("_") and name != "close":
            yield name, inspect.signature(member)


def test_both_faces_offer_the_same_operations() -> None:
    assert dict(_operations(Client)) == dict(_operations(AsyncClient))
    a, b = Client("http://x"), AsyncClient("http://x")
    for group in ("definitions", "services", "deliveries", "dead_letters"):
        blocking = dict(_operations(type(getattr(a, group))))
        assert blocking == dict(_operations(type(getattr(b, group))))
        assert blocking
    assert "self" in inspect.signature(Client.show).parameters
    assert Client.show.__doc__ == AsyncClient.show.__doc__
    a.close()


def test_a_strong_read_is_asked_for_and_its_age_told() -> None:
    server = Server(
        httpx.Response(200, json={**WORKFLOW, "ageMs": 0}),
        httpx.Response(200, json={**WORKFLOW, "ageMs": 70}),
        httpx.Response(200, json=WORKFLOW),
        problem("unavailable", 503, Retry_After="0"),
    )
    with server.client(retries=RetryPolicy(limit=0)) as client:
        assert client.show("wf_1", consistency="strong").age_ms == 0
        assert client.show("wf_1", consistency="eventual").age_ms == 70
        assert client.show("wf_1").age_ms is None  # an older server does not tell
        with pytest.raises(Unavailable):
            client.show("wf_1", consistency="strong")
    assert [request.url.query for request in server.requests] == [
        b"consistency=strong",
        b"consistency=eventual",
        b"",
        b"consistency=strong",
    ]


async def test_the_async_face_does_the_same() -> None:
    server = Server(
        httpx.ReadError("reset"),
        httpx.Response(200, json=WORKFLOW),
        _page("wf_3", "wf_2", following="/v1/workflows?cursor=x"),
        _page("wf_1"),
        problem("not-found", 404),
    )
    options: dict[str, Any] = {"transport": httpx.MockTransport(server), "retries": QUICK}
    async with AsyncClient("http://orchx", **options) as client:
        assert (await client.show("wf_1")).ended
        assert [workflow.id async for workflow in client.list()] == ["wf_3", "wf_2", "wf_1"]
        with pytest.raises(NotFound):
            await client.cancel("wf_9", reason="why not")


async def test_cancelling_an_async_wait_leaves_nothing_open() -> None:
    running = {**WORKFLOW, "status": "running"}
    asked = asyncio.Event()

    def answer(request: httpx.Request) -> httpx.Response:
        asked.set()
        return httpx.Response(200, json=running)

    async with AsyncClient("http://orchx", transport=httpx.MockTransport(answer)) as client:
        waiting = asyncio.ensure_future(client.wait("wf_1"))
        await asked.wait()
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
