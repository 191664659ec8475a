from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from starlette.types import Message
from structlog.testing import capture_logs

from orchx.errors import Bug, DriverError
from orchx.serve import answers
from orchx.serve.json_body import is_too_deep, read_json
from orchx.serve.problems import HttpError
from tests.unit.serve.conftest import Rig

JSON = {"content-type": "application/json"}
PATH = "/v1/requests"


def _problem(response: httpx.Response, status: int) -> dict[str, Any]:
    assert response.status_code == status
    assert response.headers["content-type"] == "application/problem+json"
    problem = answers.Problem.model_validate(response.json())
    assert problem.status == status
    return dict(response.json())


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"", "not JSON"),
        (b"{", "not JSON"),
        (b'{"type": "hr.leave"} x', "not JSON"),
        (b'{"type": "hr.leave", "type": "x"}', "same key twice"),
        (b'{"input": [{"a": {"b": 1, "b": 2}}]}', "same key twice"),
        (b'{"input": NaN}', "NaN"),
        (b'{"input": -Infinity}', "Infinity"),
        (b'{"input": 1e999}', "1e999"),
        (b'{"input": 9223372036854775808}', "64 bits"),
        (b'{"input": ' + b"9" * 3000 + b"}", "64 bits"),
        (b'{"input": "\xff"}', "UTF-8"),
        (b'{"input": "\xed\xa0\x80"}', "UTF-8"),
        (b'{"input": "\\u0000"}', "NUL"),
        (b'{"input": {"\\u0000": 1}}', "NUL"),
        (b'{"input": "\\ud800"}', "surrogate"),
        (b'{"input": ' + b"[" * 11 + b"]" * 11 + b"}", "too deep"),
        (b"[" * 4000, "too deep"),
        (b'{"a":' * 800, "too deep"),
        (b"\xef\xbb\xbf{}", "not JSON"),
    ],
)
async def test_json_that_is_not_taken(client: httpx.AsyncClient, body: bytes, says: str) -> None:
    response = await client.post(PATH, content=body, headers=JSON)
    assert says in _problem(response, 400)["detail"]


def test_the_pointer_of_a_bad_string() -> None:
    with pytest.raises(HttpError) as caught:
        read_json(b'{"a/b": ["x", "\\u0000"]}', max_depth=10)
    assert caught.value.violations[0].pointer == "/a~1b/1"


@pytest.mark.parametrize(
    ("body", "deep"),
    [
        (b"[[[]]]", False),
        (b"[[[[]]]]", True),
        (b'["[[[[", "\\"[[[[", {}]', False),
        (b"[{},{},{},{},{},{}]", False),
        (b'[{"a":[{"b":1}]}]', True),
        (b"]]]]]]]]", False),
        (b"[][][][][[[[", True),
    ],
)
def test_depth_is_counted_outside_of_strings(body: bytes, deep: bool) -> None:
    assert is_too_deep(body, 3) is deep


def test_what_json_can_say_is_kept() -> None:
    value = {"a": [1, -(2**63), 2**63 - 1, 1.5, None, True, "é\U0001f600 \\u0000"], "": {}}
    assert read_json(json.dumps(value).encode(), max_depth=4) == value


async def test_bodies_over_the_limit(client: httpx.AsyncClient) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(5):
            yield b" " * 1000

    with_length = await client.post(PATH, content=b" " * 4097, headers=JSON)
    without = await client.post(PATH, content=chunks(), headers=JSON)
    assert "content-length" not in without.request.headers
    for response in (with_length, without):
        assert "4096" in _problem(response, 413)["detail"]
        assert response.headers["connection"] == "close"


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"content-length": "1x"}, 400),
        ({"content-length": "-1"}, 400),
        ({"content-length": "9" * 30}, 400),
        ({f"x-{number}": "1" for number in range(101)}, 431),
        ({"x": "1" * 33_000}, 431),
        ({"content-encoding": "gzip"}, 415),
        ({"content-type": "text/plain"}, 415),
        ({"content-type": "application/json; charset=utf-16"}, 415),
        ({"content-type": ""}, 415),
        ({"idempotency-key": ""}, 422),
        ({"idempotency-key": "a" * 256}, 422),
        ({"idempotency-key": "a b"}, 422),
    ],
)
async def test_heads_that_are_not_taken(
    client: httpx.AsyncClient, headers: dict[str, str], status: int
) -> None:
    response = await client.post(PATH, content=b'{"type": "hr.leave"}', headers=JSON | headers)
    _problem(response, status)


async def test_targets(client: httpx.AsyncClient) -> None:
    _problem(await client.get("/v1/workflows?name=" + "x" * 8200), 414)
    _problem(await client.get("/v1/workflows?name=%FF"), 422)
    _problem(await client.get("/v1/workflows?name=%00"), 422)
    _problem(await client.get("/v1/nothing"), 404)
    _problem(await client.get("/v1/workflows/"), 404)
    refused = await client.request("PATCH", "/v1/definitions")
    _problem(refused, 405)
    assert refused.headers["allow"] == "POST, PUT, GET, HEAD"
    head = await client.head("/healthz")
    assert head.status_code == 200


@pytest.mark.parametrize(("length", "status"), [(b"10", 408), (b"4097", 413)])
async def test_a_body_that_does_not_come(rig: Rig, length: bytes, status: int) -> None:
    sent: list[Message] = []

    async def receive() -> Message:
        await asyncio.Event().wait()
        raise AssertionError

    async def send(message: Message) -> None:
        sent.append(message)

    key = f"Bearer {rig.tokens['submit']}"
    scope = {
        "type": "http",
        "method": "POST",
        "path": PATH,
        "raw_path": PATH.encode(),
        "query_string": b"",
        "headers": [(b"content-length", length), (b"authorization", key.encode())],
    }
    await rig.app(scope, receive, send)
    assert sent[0]["status"] == status


async def test_a_bug_is_an_opaque_500(rig: Rig, client: httpx.AsyncClient) -> None:
    for error in (RuntimeError("secret-in-message"), Bug("secret-in-message")):
        rig.gateway.fail = error
        with capture_logs() as logged:
            response = await client.get("/v1/workflows")
        problem = _problem(response, 500)
        assert "secret" not in response.text
        (line,) = logged
        assert line["log_level"] == "error"
        assert line["trace_id"] == problem["traceId"]
        assert line["exc_info"] is error
    rig.gateway.fail = DriverError("password=x")
    response = await client.get("/v1/workflows")
    _problem(response, 503)
    assert "password" not in response.text


async def test_the_trace_is_the_callers(client: httpx.AsyncClient) -> None:
    trace = "4bf92f3577b34da6a3ce929d0e0e4736"
    for given, kept in [
        (f"00-{trace}-00f067aa0ba902b7-01", True),
        (f"01-{trace}-00f067aa0ba902b7-01-more", True),
        (f"00-{trace}-00f067aa0ba902b7-01-more", False),
        (f"ff-{trace}-00f067aa0ba902b7-01", False),
        (f"00-{trace}-0000000000000000-01", False),
        (f"00-{trace.upper()}-00f067aa0ba902b7-01", False),
    ]:
        response = await client.get("/v1/nothing", headers={"traceparent": given})
        assert (response.json()["traceId"] == trace) is kept
