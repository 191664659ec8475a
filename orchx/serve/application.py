"""The HTTP API as one ASGI application. Knows nothing of Ray: the engine is a `Gateway`."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Final

from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from orchx.adapters.definition_source import read_definition as read_definition_text
from orchx.errors import NotFound
from orchx.ports.gateway import Gateway
from orchx.serve.api_keys import ApiKeys
from orchx.serve.authentication import Authenticator, check_authentication_setting
from orchx.serve.context import (
    Api,
    CheckCallback,
    CheckServices,
    Observe,
    ReadDefinition,
    Slots,
    any_callback,
    services_with_usual_secrets,
    unobserved,
)
from orchx.serve.limits import LimitsMiddleware, RequestLimits
from orchx.serve.openapi import build_openapi
from orchx.serve.operation_table import OPERATIONS
from orchx.serve.operations_api import release
from orchx.serve.problems import problem_response
from orchx.serve.request_bodies import RequestBodies
from orchx.serve.routing import Call, build_routes, json_response, log_failure
from orchx.serve.runnable_definitions import RunnableDefinitions
from orchx.serve.trace_context import trace_id_of, traceparent_from
from orchx.settings import HttpSettings

MAX_STREAMS: Final = 1_000  # event streams open at once per process
MAX_WAITS: Final = 5_000  # requests waiting for an outcome at once per process


def build_application(
    gateway: Gateway,
    settings: HttpSettings,
    keys: ApiKeys,
    *,
    limits: RequestLimits | None = None,
    read_definition: ReadDefinition = read_definition_text,
    check_callback: CheckCallback = any_callback,
    check_services: CheckServices = services_with_usual_secrets,
    observe: Observe = unobserved,
    now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    monotonic_ms: Callable[[], int] = lambda: time.monotonic_ns() // 1_000_000,
) -> FastAPI:
    """Return the application; nothing is opened or started by this.

    Args:
        gateway: the engine.
        settings: size, depth and wait limits, and whether authentication is on.
        keys: who may do what.
        limits: limits before parsing; by default the body limit of `settings`.
        read_definition: parses workflow documents.
        check_callback: refuses callbacks that could never be made.
        check_services: refuses services that ask for what they may not have.
        observe: told of every answer: method, path template, status, seconds.
        now_ms: wall-clock time in epoch milliseconds.
        monotonic_ms: milliseconds that only grow, for caches.

    Raises:
        InvalidRequest: authentication is off on a host that is not loopback.
    """
    check_authentication_setting(settings)
    api = Api(
        gateway=gateway,
        settings=settings,
        definitions=RunnableDefinitions(gateway.catalog, monotonic_ms),
        read_definition=read_definition,
        check_callback=check_callback,
        check_services=check_services,
        observe=observe,
        now_ms=now_ms,
        streams=Slots(MAX_STREAMS, "event streams"),
        waits=Slots(MAX_WAITS, "waiting requests"),
    )
    app = FastAPI(
        title="orchx",
        version=release(),
        openapi_url=None,  # served by an operation of ours, like everything else
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        exception_handlers={HTTPException: _framework_error, Exception: _framework_error},
    )
    document = build_openapi(OPERATIONS, settings, app.version)

    async def show_openapi(api: Api, call: Call) -> Response:
        return json_response(document)

    operations = [
        replace(operation, handler=show_openapi) if operation.id == "showOpenapi" else operation
        for operation in OPERATIONS
    ]
    limits = limits or RequestLimits(
        max_body_bytes=settings.max_body_bytes, max_writes=settings.max_writes
    )
    authenticator = Authenticator(keys, settings)
    app.router.routes.extend(build_routes(operations, api, authenticator, RequestBodies(limits)))
    app.openapi_schema = document
    app.add_middleware(LimitsMiddleware, limits=limits)
    return app


async def _framework_error(request: Request, error: Exception) -> Response:
    """Answer what never reached an operation: there is no such route, or the framework failed."""
    trace_id = trace_id_of(traceparent_from(request.headers.get("traceparent")))
    cause: Exception = error
    if isinstance(error, HTTPException) and error.status_code == 404:
        cause = NotFound("there is nothing at this path; GET / lists what there is")
    response = problem_response(cause, instance=request.url.path, trace_id=trace_id)
    log_failure(cause, request.scope, response.status_code, trace_id)
    return response
