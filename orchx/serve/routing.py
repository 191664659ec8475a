"""One table of operations, from which requests are routed, guarded and documented.

FastAPI's own routing declares handlers, scopes and documentation in three places and
validates answers by building models of them; here one `Operation` says it all, and a
handler returns a finished response, which is what keeps the hot path short.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final, TypeAlias

import msgspec
import structlog
from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from orchx.errors import CallerError, OrchxError, TryLater, Unavailable
from orchx.ports.key_store import Scope as KeyScope
from orchx.serve.authentication import ANYONE, Authenticator, Caller
from orchx.serve.context import Api
from orchx.serve.problems import HttpError, problem_response
from orchx.serve.query import read_query
from orchx.serve.request_bodies import ClientGone, RequestBodies
from orchx.serve.trace_context import trace_id_of, traceparent_from

JSON_TYPE: Final = "application/json"
SPARE_TIME_S: Final = 10.0  # that a request may take beyond the longest wait

_log = structlog.get_logger("orchx.serve")


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One request, authenticated and authorised; `query` is the operation's query model.

    `stored` is to be called once nothing more is done but to wait: the body counts no more
    among those that are held, and the waiting has the whole time limit to itself.
    """

    request: Request
    caller: Caller
    traceparent: str
    query: Any = None
    stored: Callable[[], None] = lambda: None


Handler: TypeAlias = Callable[[Api, Call], Awaitable[Response]]
SchemaSource: TypeAlias = type[BaseModel] | Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class HeaderDoc:
    """A request or response header, as documented."""

    name: str
    description: str
    schema: Mapping[str, Any] = field(default_factory=lambda: {"type": "string"})


NEXT: Final = HeaderDoc(name="Link", description='`rel="next"`, if there is more')


@dataclass(frozen=True, slots=True, kw_only=True)
class BodyDoc:
    """A request body: per media type, its schema and examples by name."""

    content: Mapping[str, SchemaSource]
    examples: Mapping[str, Any]
    required: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerDoc:
    """An answer that is not a problem."""

    status: int
    description: str
    content: Mapping[str, SchemaSource] = field(default_factory=dict)
    example: Any = None
    headers: tuple[HeaderDoc, ...] = ()


def json_answer(
    status: int, description: str, model: SchemaSource, example: Any, *headers: HeaderDoc
) -> AnswerDoc:
    """Return the documentation of an answer in JSON."""
    return AnswerDoc(
        status=status,
        description=description,
        content={JSON_TYPE: model},
        example=example,
        headers=headers,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One method of one path.

    `scope` None: open to all. `any_tenant`: also for keys bound to a tenant. `problems`:
    statuses of problems beyond those that every operation may answer with. `unbounded`:
    may take longer than any limit (a stream).
    """

    method: str
    path: str
    handler: Handler
    id: str
    tag: str
    summary: str
    answers: tuple[AnswerDoc, ...]
    scope: KeyScope | None
    any_tenant: bool = True
    query: type[BaseModel] | None = None
    headers: tuple[HeaderDoc, ...] = ()
    body: BodyDoc | None = None
    problems: tuple[int, ...] = ()
    path_examples: Mapping[str, str] = field(default_factory=dict)
    unbounded: bool = False


def json_response(
    value: object, status: int = 200, headers: Mapping[str, str] | None = None
) -> Response:
    """Return a value as a JSON answer."""
    return Response(msgspec.json.encode(value), status, dict(headers or {}), JSON_TYPE)


def build_routes(
    operations: Iterable[Operation],
    api: Api,
    authenticator: Authenticator,
    bodies: RequestBodies,
) -> list[Route]:
    """Return one route per path that serves all its methods."""
    by_path: dict[str, dict[str, Operation]] = {}
    for operation in operations:
        by_path.setdefault(operation.path, {})[operation.method] = operation
    return [
        Route(path, _PathEndpoint(path, methods, api, authenticator, bodies), name=path)
        for path, methods in by_path.items()
    ]


class _PathEndpoint:
    """An ASGI application for one path: guards, calls the handler, turns errors into problems."""

    def __init__(
        self,
        path: str,
        methods: Mapping[str, Operation],
        api: Api,
        authenticator: Authenticator,
        bodies: RequestBodies,
    ) -> None:
        self._path = path
        self._methods = methods
        self._api = api
        self._authenticator = authenticator
        self._bodies = bodies
        allowed = [*methods, *(["HEAD"] if _has_head(methods) else [])]
        self._allow = ", ".join(allowed)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        traceparent = traceparent_from(request.headers.get("traceparent"))
        begun_s = time.perf_counter()
        # The edge of this process's own code: whatever happens below becomes one answer.
        try:
            response = await self._answer(request, traceparent)
        except ClientGone:
            return
        except Exception as error:
            trace_id = trace_id_of(traceparent)
            response = problem_response(error, instance=scope["path"], trace_id=trace_id)
            log_failure(error, scope, response.status_code, trace_id)
        took_s = time.perf_counter() - begun_s
        self._api.observe(request.method, self._path, response.status_code, took_s)
        await response(scope, receive, send)

    async def _answer(self, request: Request, traceparent: str) -> Response:
        operation = self._methods.get(request.method)
        if operation is None and request.method == "HEAD" and _has_head(self._methods):
            operation = self._methods["GET"]
        if operation is None:
            raise HttpError(
                405,
                f"{request.method} is not possible here; {self._allow} is",
                headers={"Allow": self._allow},
            )
        caller = ANYONE
        if operation.scope is not None:
            caller = await self._authenticator.identify(request)
            caller.require(operation.scope, any_tenant=operation.any_tenant)
        query = read_query(request.scope["query_string"], operation.query)
        call = Call(request=request, caller=caller, traceparent=traceparent, query=query)
        if operation.body is None:
            return await self._handle(operation, call)
        # Only now: a body is read for those who may send it.
        async with self._bodies.receive(request.receive) as (receive, release):
            call = replace(call, request=Request(request.scope, receive))
            return await self._handle(operation, call, release)

    async def _handle(
        self, operation: Operation, call: Call, release: Callable[[], None] = lambda: None
    ) -> Response:
        if operation.unbounded:
            return await operation.handler(self._api, call)
        limit_s = self._api.settings.max_wait_s + SPARE_TIME_S
        timer = asyncio.timeout(limit_s)

        def stored() -> None:
            release()
            timer.reschedule(asyncio.get_running_loop().time() + limit_s)

        try:
            async with timer:
                return await operation.handler(self._api, replace(call, stored=stored))
        except TimeoutError as error:
            if not timer.expired():
                raise
            raise Unavailable(f"no answer within {limit_s:g} s") from error


def _has_head(methods: Mapping[str, Operation]) -> bool:
    return "GET" in methods and not methods["GET"].unbounded


def log_failure(error: BaseException, scope: Scope, status: int, trace_id: str) -> None:
    """Log an error once: the caller's at debug level, ours with its cause."""
    known = {
        "method": scope["method"],
        "path": scope["path"],
        "status": status,
        "trace_id": trace_id,
        "workflow_id": scope.get("path_params", {}).get("id"),
    }
    if isinstance(error, CallerError):
        _log.debug("request refused", problem=error.title, **known)
    elif isinstance(error, TryLater):
        _log.warning("request turned away", reason=error.detail, **known)
    elif isinstance(error, OrchxError):
        _log.error("request failed", exc_info=error, **known)
    else:
        _log.error("request failed unexpectedly", exc_info=error, **known)
