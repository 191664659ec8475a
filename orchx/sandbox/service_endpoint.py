"""Answers the calls of one service: finds the operation, decodes, disturbs, carries out."""

from __future__ import annotations

import re
from typing import Any, Final
from urllib.parse import parse_qsl

import msgspec
from starlette.types import Receive, Scope, Send

from orchx.sandbox.faults import FaultBoard
from orchx.sandbox.ledger import IDEMPOTENCY_KEY_MAX_CHARACTERS, Invocation, Ledger
from orchx.sandbox.openapi import openapi_document
from orchx.sandbox.operations import Input, NoInput, Operation, Service
from orchx.sandbox.problems import Problem, invalid_input
from orchx.sandbox.replies import JSON_CONTENT_TYPE, Reply
from orchx.sandbox.wire import exchange, header, send_reply

DOCUMENT_PATH: Final = "/openapi.json"
_NO_INPUT: Final = NoInput()
_NO_PARAMETERS: Final[dict[str, str]] = {}


class _Route:
    """An operation with what its calls need, prepared once."""

    __slots__ = ("decode", "operation", "pattern")

    def __init__(self, operation: Operation) -> None:
        self.operation = operation
        self.pattern = re.compile(re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+)", operation.path))
        self.decode = msgspec.json.Decoder(operation.input).decode


class ServiceEndpoint:
    """ASGI application of one service, below the path `/{service}`."""

    def __init__(self, service: Service, ledger: Ledger, faults: FaultBoard) -> None:
        self._service = service
        self._ledger = ledger
        self._faults = faults
        self._document = openapi_document(service)
        routes = [_Route(operation) for operation in service.operations]
        # Most calls go to a path without parameters: one look-up, no regular expression.
        self._exact: dict[tuple[str, str], _Route] = {
            (route.operation.method, route.operation.path): route for route in routes
        }
        self._templates = [route for route in routes if "{" in route.operation.path]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one call; the path in `scope` starts with the service's prefix."""
        path = scope["path"][len(self._service.name) + 1 :]
        if path == DOCUMENT_PATH and scope["method"] == "GET":
            await send_reply(send, Reply(status=200, body=self._document))
            return
        try:
            route, parameters = self._find(scope["method"], path)
            key = _idempotency_key(scope)
        except Problem as problem:
            await send_reply(send, problem.reply())
            return
        operation = route.operation
        self._ledger.count_attempt(self._service.name, operation, key)
        fault = self._faults.draw(self._service.name, operation.operation_id)

        async def answer(body: bytes) -> Reply:
            return await self._ledger.perform(
                Invocation(
                    service=self._service.name,
                    operation=operation,
                    path=parameters,
                    input=_decoded(route, scope, body),
                    idempotency_key=key,
                    workflow=header(scope, b"x-orchx-workflow") or "",
                )
            )

        await exchange(scope, receive, send, fault, answer)

    def _find(self, method: str, path: str) -> tuple[_Route, dict[str, str]]:
        if route := self._exact.get((method, path)):
            return route, _NO_PARAMETERS
        allowed = {known for known, exact in self._exact if exact == path}
        for route in self._templates:
            if match := route.pattern.fullmatch(path):
                if route.operation.method == method:
                    return route, match.groupdict()
                allowed.add(route.operation.method)
        if allowed:
            headers = ((b"allow", ", ".join(sorted(allowed)).encode()),)
            raise Problem(405, "method-not-allowed", f"Not {method} here.", headers=headers)
        raise Problem(404, "unknown-path", f"{self._service.name} has no {path}.")


def _idempotency_key(scope: Scope) -> str | None:
    key = header(scope, b"idempotency-key")
    if key is not None and not 1 <= len(key) <= IDEMPOTENCY_KEY_MAX_CHARACTERS:
        limits = f"1 to {IDEMPOTENCY_KEY_MAX_CHARACTERS} characters"
        raise Problem(400, "invalid-idempotency-key", f"An idempotency key has {limits}.")
    return key


def _decoded(route: _Route, scope: Scope, body: bytes) -> Input:
    operation = route.operation
    try:
        if not operation.takes_body:
            if operation.input is NoInput and not scope["query_string"]:
                return _NO_INPUT
            query: dict[str, Any] = dict(parse_qsl(scope["query_string"].decode("latin-1")))
            return msgspec.convert(query, operation.input, strict=False)
        content_type = header(scope, b"content-type") or ""
        if not content_type.startswith(JSON_CONTENT_TYPE.decode()):
            raise Problem(415, "unsupported-media-type", "The body must be application/json.")
        return route.decode(body)
    except msgspec.ValidationError as error:
        raise invalid_input(error) from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Problem(400, "malformed-json", str(error)) from error
