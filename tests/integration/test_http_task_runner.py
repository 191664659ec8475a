"""`HttpTaskRunner` against a real server that misbehaves on purpose."""

from __future__ import annotations

import asyncio
import base64
import json
import socket
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web

from orchx.adapters.http_task_runner import HttpTaskRunner
from orchx.domain.events import CallDetails
from orchx.domain.faults import (
    AUTHORIZATION,
    COMMUNICATION,
    CONFIGURATION,
    EXPRESSION,
    TIMEOUT,
    VALIDATION,
    Fault,
)
from orchx.domain.messages import TaskOutcome, TaskRequest
from orchx.domain.services import Operation, Service
from orchx.settings import PoolSettings
from tests.integration.misbehaving_server import Server

TOKEN = "tok/en-123"
NOW_MS = 1_767_225_600_000  # 2026-01-01T00:00:00Z


class FixedClock:
    def now_ms(self) -> int:
        return NOW_MS

    def ticks_ms(self) -> int:
        return 1

    async def sleep(self, delay_s: float) -> None:
        raise AssertionError("nothing here sleeps")


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    server = Server()
    runner = web.AppRunner(server.app(), shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    server.url = f"http://127.0.0.1:{port}"
    yield server
    server.released.set()
    await runner.cleanup()


@pytest.fixture
async def client(server: Server) -> AsyncIterator[HttpTaskRunner]:
    operations = [
        Operation(capability="pet.read", method="GET", path="/pets/{id}"),
        Operation(capability="pet.write", method="PUT", path="/pets/{id}"),
        Operation(capability="pet.fail", method="GET", path="/answer"),
    ]
    services = {
        "pets": Service(
            name="pets", base_url=server.url, operations=operations, bearer_env="ORCHX_SECRET_PETS"
        ),
        "thief": Service(
            name="thief", base_url=server.url, operations=operations, bearer_env="DB_PASSWORD"
        ),
    }
    settings = PoolSettings(max_response_bytes=100_000)
    environment = {"ORCHX_SECRET_PETS": TOKEN, "DB_PASSWORD": "of somebody else"}
    runner = HttpTaskRunner(settings, services, FixedClock(), environment)
    yield runner
    await runner.close()


def call(target: str, arguments: Any, **more: Any) -> TaskRequest:
    details = {"function": target, "target": target, "arguments": arguments, **more}
    return TaskRequest(
        workflow_id="w1",
        frame=3,
        key="key-1",
        owner="owner",
        reference="/do/0/päge",
        call=CallDetails(**details),
        attempt=2,
    )


def get(url: str, **more: Any) -> TaskRequest:
    return call("http", {"method": "get", "endpoint": {"uri": url}, **more}, timeout_ms=5_000)


async def fault_of(client: HttpTaskRunner, request: TaskRequest) -> Fault:
    outcome = await client.run(request)
    assert outcome.error is not None, outcome
    return outcome.error


async def output_of(client: HttpTaskRunner, request: TaskRequest) -> Any:
    outcome: TaskOutcome = await client.run(request)
    assert outcome.error is None, outcome
    return outcome.output


def answer(server: Server, body: bytes, **query: str) -> str:
    fields = {"body": base64.urlsafe_b64encode(body).decode(), **query}
    return f"{server.url}/answer?" + "&".join(
        f"{name}={value.replace('+', '%2B').replace(' ', '%20')}" for name, value in fields.items()
    )


async def test_every_call_says_who_it_is(client: HttpTaskRunner, server: Server) -> None:
    spoofed = {"idempotency-key": "mine", "X-Custom": "1"}
    headers = (await output_of(client, get(f"{server.url}/echo", headers=spoofed)))["headers"]
    assert headers["Idempotency-Key"] == "key-1"
    assert headers["X-Orchx-Workflow"] == "w1"
    assert headers["X-Orchx-Task"] == "/do/0/p%C3%A4ge"
    assert headers["X-Orchx-Attempt"] == "2"
    assert headers["User-Agent"].startswith("orchx")
    assert headers["traceparent"].startswith("00-")
    assert headers["X-Custom"] == "1"
    assert "idempotency-key" not in headers


async def test_templates_query_and_body(client: HttpTaskRunner, server: Server) -> None:
    arguments = {
        "method": "POST",
        "endpoint": server.url + "/pets/{petId}?q={none}",
        "templateVariables": {"petId": "a/b c"},
        "query": {"tag": ["x", "y"], "none": None, "flag": True},
        "body": {"name": "milou"},
    }
    echoed = await output_of(client, call("http", arguments))
    assert echoed["path"] == "/pets/a%2Fb%20c?q=&tag=x&tag=y&flag=true"
    assert json.loads(echoed["body"]) == {"name": "milou"}
    assert echoed["headers"]["Content-Type"] == "application/json"


@pytest.mark.parametrize(
    ("arguments", "kind"),
    [
        ({"method": "get"}, CONFIGURATION),
        ({"method": "get", "endpoint": "ftp://x/"}, CONFIGURATION),
        ({"method": "get", "endpoint": "http://user:pw@x/"}, CONFIGURATION),
        ({"method": "get", "endpoint": "/relative"}, CONFIGURATION),
        ({"method": "g t", "endpoint": "http://x/"}, CONFIGURATION),
        ({"method": "get", "endpoint": "http://x/", "headers": {"A": "1\r\nB: 2"}}, VALIDATION),
        ({"method": "get", "endpoint": "http://x/", "headers": {"A\n": "1"}}, VALIDATION),
        ({"method": "get", "endpoint": "http://x/", "headers": {"Host": "y"}}, CONFIGURATION),
        ({"method": "get", "endpoint": "http://x/", "output": "xml"}, CONFIGURATION),
        (
            {"method": "get", "endpoint": "http://x/{a}/y", "templateVariables": {"a": ".."}},
            VALIDATION,
        ),
        (
            {"method": "get", "endpoint": "http://x/{a}", "templateVariables": {"a": {}}},
            EXPRESSION,
        ),
        ("text", CONFIGURATION),
    ],
)
async def test_wrong_arguments_are_refused(
    client: HttpTaskRunner, arguments: Any, kind: str
) -> None:
    fault = await fault_of(client, call("http", arguments))
    assert (fault.type, fault.status) == (kind, 400)


async def test_outputs(client: HttpTaskRunner, server: Server) -> None:
    url = answer(server, b'{"a": 1}')
    assert await output_of(client, get(url)) == {"a": 1}
    assert await output_of(client, get(url, output="raw")) == base64.b64encode(b'{"a": 1}').decode()
    response = await output_of(client, get(url, output="response"))
    assert response["statusCode"] == 200
    assert response["content"] == {"a": 1}
    assert response["request"]["method"] == "get"
    assert response["request"]["uri"].startswith(server.url)


@pytest.mark.parametrize(
    ("media_type", "body", "content"),
    [
        ("application/hal+json; charset=utf-8", b"[1]", [1]),
        ("text/plain; charset=latin-1", b"\xe4", "ä"),
        ("text/html; charset=nonsense", b"\xff", "\ufffd"),
        ("application/octet-stream", b"\x00\xff", "AP8="),
        ("application/json", b"", None),
    ],
)
async def test_content_follows_its_type(
    client: HttpTaskRunner, server: Server, media_type: str, body: bytes, content: Any
) -> None:
    assert await output_of(client, get(answer(server, body, type=media_type))) == content


@pytest.mark.parametrize(
    ("body", "title"),
    [
        (b"{", "malformed JSON"),
        (b"NaN", "malformed JSON"),
        (b"\xff", "malformed JSON"),
        (b"[" * 30_000, "malformed JSON"),
        (b"[" * 200 + b"]" * 200, "JSON nested too deeply"),
    ],
)
async def test_wrong_json_is_the_services_fault(
    client: HttpTaskRunner, server: Server, body: bytes, title: str
) -> None:
    # The body is too long for a query where it is deep, hence the runner's own decoder.
    if len(body) > 1_000:
        from orchx.adapters.http_responses import decode
        from orchx.domain.faults import WorkflowFault

        with pytest.raises(WorkflowFault) as caught:
            decode(body, "application/json")
        fault = caught.value.fault
    else:
        fault = await fault_of(client, get(answer(server, body)))
    assert (fault.type, fault.status, fault.title) == (COMMUNICATION, 502, title)


async def test_problem_details_are_passed_on(client: HttpTaskRunner, server: Server) -> None:
    problem = json.dumps({"title": "No stock", "detail": "x" * 3_000}).encode()
    url = answer(server, problem, status="409", type="application/problem+json")
    fault = await fault_of(client, get(url))
    assert (fault.type, fault.status, fault.title) == (COMMUNICATION, 409, "No stock")
    assert fault.detail == "x" * 1_024


@pytest.mark.parametrize(
    ("after", "expected_ms"),
    [
        ("7", 7_000),
        ("Thu, 01 Jan 2026 00:00:30 GMT", 30_000),
        ("Thu, 01 Jan 2025 00:00:00 GMT", 0),
        ("99999999999999", 86_400_000),
        ("soon", None),
        ("-1", None),
    ],
)
async def test_retry_after(
    client: HttpTaskRunner, server: Server, after: str, expected_ms: int | None
) -> None:
    fault = await fault_of(client, get(answer(server, b"", status="503", after=after)))
    assert (fault.status, fault.retry_after_ms) == (503, expected_ms)


async def test_a_hanging_service_is_cut(client: HttpTaskRunner, server: Server) -> None:
    for path in ("/hang", "/drip"):
        arguments = {"method": "get", "endpoint": server.url + path}
        fault = await fault_of(client, call("http", arguments, timeout_ms=100))
        assert (fault.type, fault.status) == (TIMEOUT, 408)


async def test_a_flood_is_cut(client: HttpTaskRunner, server: Server) -> None:
    fault = await fault_of(client, get(f"{server.url}/flood"))
    assert (fault.type, fault.status, fault.title) == (COMMUNICATION, 502, "response too large")


@pytest.mark.parametrize("path", ["/drop", "/cut"])
async def test_a_dropped_connection(client: HttpTaskRunner, server: Server, path: str) -> None:
    fault = await fault_of(client, get(server.url + path))
    assert (fault.type, fault.status) == (COMMUNICATION, 502)


async def test_nobody_listens(client: HttpTaskRunner, unused_port: int) -> None:
    fault = await fault_of(client, get(f"http://127.0.0.1:{unused_port}/"))
    assert (fault.type, fault.status, fault.title) == (COMMUNICATION, 503, "cannot connect")


async def test_a_name_that_does_not_resolve(client: HttpTaskRunner) -> None:
    fault = await fault_of(client, get("http://nobody.invalid/"))
    assert (fault.status, fault.title) == (503, "host name does not resolve")


async def test_no_tls_where_tls_is_asked_for(client: HttpTaskRunner, server: Server) -> None:
    fault = await fault_of(client, get(server.url.replace("http:", "https:") + "/echo"))
    assert (fault.status, fault.title) == (502, "TLS handshake failed")


async def test_redirects_are_errors_unless_wanted(client: HttpTaskRunner, server: Server) -> None:
    fault = await fault_of(client, get(f"{server.url}/redirect/302"))
    assert (fault.type, fault.status) == (COMMUNICATION, 302)
    echoed = await output_of(client, get(f"{server.url}/redirect/302", redirect=True))
    assert echoed["path"] == "/echo"
    fault = await fault_of(client, get(f"{server.url}/loop", redirect=True))
    assert fault.title == "too many redirects"
    assert await output_of(client, get(answer(server, b"", status="304"), redirect=True)) is None


@pytest.mark.parametrize(("status", "method"), [(302, "GET"), (303, "GET"), (307, "POST")])
async def test_a_redirected_post(
    client: HttpTaskRunner, server: Server, status: int, method: str
) -> None:
    arguments = {
        "method": "post",
        "endpoint": f"{server.url}/redirect/{status}",
        "body": {"a": 1},
        "redirect": True,
    }
    echoed = await output_of(client, call("http", arguments))
    assert echoed["method"] == method
    assert bool(echoed["body"]) == (method == "POST")


async def test_credentials_stay_with_their_origin(client: HttpTaskRunner, server: Server) -> None:
    elsewhere = server.url.replace("127.0.0.1", "localhost") + "/echo"
    for target, kept in ((elsewhere, False), ("/echo", True)):
        request = get(
            f"{server.url}/redirect/302?to={target}",
            headers={"Authorization": "Basic eA==", "Cookie": "a=b"},
            redirect=True,
        )
        headers = (await output_of(client, request))["headers"]
        assert ("Authorization" in headers, "Cookie" in headers) == (kept, kept)


async def test_private_addresses_are_refused(server: Server) -> None:
    settings = PoolSettings(allow_private_addresses=False)
    client = HttpTaskRunner(settings, {}, FixedClock())
    port = server.url.rpartition(":")[2]
    for host in ("127.0.0.1", "localhost", "[::1]", "[::ffff:127.0.0.1]", "169.254.169.254"):
        fault = await fault_of(client, get(f"http://{host}:{port}/echo"))
        assert (fault.type, fault.status, fault.title) == (AUTHORIZATION, 403, "address refused")
    for host in ("127.1", "2130706433", "0x7f.1"):  # spellings of loopback
        assert (await fault_of(client, get(f"http://{host}:{port}/echo"))).status in (400, 403)
    assert not server.seen
    await client.close()


async def test_a_capability_call(client: HttpTaskRunner, server: Server) -> None:
    arguments = {"id": "p/1", "tag": "x"}
    read = call("service", arguments, service="pets", function="pet.read")
    echoed = await output_of(client, read)
    assert (echoed["method"], echoed["path"]) == ("GET", "/pets/p%2F1?tag=x")
    write = call("service", arguments, service="pets", function="pet.write")
    echoed = await output_of(client, write)
    assert (echoed["method"], echoed["path"]) == ("PUT", "/pets/p%2F1")
    assert json.loads(echoed["body"]) == {"tag": "x"}


@pytest.mark.parametrize(
    ("more", "arguments", "kind"),
    [
        ({"service": "nobody", "function": "pet.read"}, {"id": "1"}, CONFIGURATION),
        ({"service": "pets", "function": "pet.fly"}, {"id": "1"}, CONFIGURATION),
        ({"service": "pets", "function": "pet.read"}, {}, VALIDATION),
    ],
)
async def test_a_wrong_capability_call(
    client: HttpTaskRunner, more: dict[str, str], arguments: Any, kind: str
) -> None:
    assert (await fault_of(client, call("service", arguments, **more))).type == kind


async def test_the_token_is_sent_and_never_seen(
    client: HttpTaskRunner, server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    request = call("service", {"id": "1"}, service="pets", function="pet.read")
    outcome = await client.run(request)
    assert server.seen[-1].headers["Authorization"] == f"Bearer {TOKEN}"
    assert TOKEN not in str(outcome)  # though the service sent it back
    problem = base64.urlsafe_b64encode(json.dumps({"detail": f"bad {TOKEN}"}).encode()).decode()
    arguments = {"status": "401", "body": problem, "type": "application/problem+json"}
    outcome = await client.run(call("service", arguments, service="pets", function="pet.fail"))
    assert outcome.error is not None
    assert "bad" in (outcome.error.detail or "")
    assert TOKEN not in str(outcome)
    assert TOKEN not in caplog.text


async def test_a_variable_that_the_settings_do_not_allow_is_never_sent(
    client: HttpTaskRunner, server: Server
) -> None:
    """Whatever the catalog says: it may have been filled before the settings were tightened."""
    fault = await fault_of(
        client, call("service", {"id": "1"}, service="thief", function="pet.read")
    )
    assert fault.type == CONFIGURATION
    assert "DB_PASSWORD may not be sent" in str(fault)
    assert server.seen == []


async def test_an_openapi_call(client: HttpTaskRunner, server: Server) -> None:
    arguments = {
        "document": {"endpoint": f"{server.url}/openapi.json"},
        "operationId": "updatePet",
        "parameters": {"id": 7, "tags": ["a", "b"], "X-Mode": "fast", "name": "milou"},
    }
    echoed, _ = await asyncio.gather(
        output_of(client, call("openapi", arguments)), output_of(client, call("openapi", arguments))
    )
    assert (echoed["method"], echoed["path"]) == ("PUT", "/pets/7?tags=a&tags=b")
    assert echoed["headers"]["X-Mode"] == "fast"
    assert json.loads(echoed["body"]) == {"name": "milou"}
    assert server.document_fetches == 1
    client.expire_documents()
    await output_of(client, call("openapi", arguments))
    assert server.document_fetches == 2
    missing = {**arguments, "parameters": {}}
    assert (await fault_of(client, call("openapi", missing))).type == VALIDATION
    unknown = {**arguments, "operationId": "nope"}
    assert (await fault_of(client, call("openapi", unknown))).type == CONFIGURATION


async def test_a_document_that_is_not_there_is_not_asked_for_again_at_once(
    client: HttpTaskRunner, server: Server
) -> None:
    arguments = {"document": {"endpoint": f"{server.url}/nothing"}, "operationId": "x"}
    for _ in range(2):
        fault = await fault_of(client, call("openapi", arguments))
        assert (fault.status, fault.title) == (502, "no OpenAPI document")
    assert [request.path for request in server.seen] == ["/nothing"]


@pytest.fixture
def unused_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port
