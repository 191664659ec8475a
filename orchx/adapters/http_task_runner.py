"""Calls over HTTP: endpoints, OpenAPI operations and services' capabilities."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping
from typing import Final

import aiohttp
import yarl

from orchx.adapters import http_faults, http_requests, http_responses
from orchx.adapters.address_guard import AddressGuard, AddressRefused, GuardedResolver
from orchx.adapters.http_requests import OutgoingRequest
from orchx.adapters.openapi_documents import OpenApiDocuments
from orchx.adapters.openapi_requests import from_openapi_arguments
from orchx.domain.faults import WorkflowFault
from orchx.domain.json_values import JSON
from orchx.domain.messages import TaskOutcome, TaskRequest
from orchx.domain.services import Service, may_be_sent
from orchx.engine.call_timeouts import call_timeout_ms
from orchx.ports.clock import Clock
from orchx.settings import PoolSettings

MAX_REDIRECTS: Final = 5
CONNECT_TIMEOUT_S: Final = 10.0
DNS_CACHE_S: Final = 30
IDLE_CONNECTION_S: Final = 15.0
USER_AGENT: Final = "orchx"

_TRACEPARENT: Final = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")
_FOLLOWED: Final = (301, 302, 303, 307, 308)
_CREDENTIALS: Final = ("authorization", "cookie", "proxy-authorization")
_BODY_HEADERS: Final = ("content-type", "content-encoding", "content-language")


class HttpTaskRunner:
    """Makes calls of the targets `http`, `openapi` and `service`. For one event loop.

    Args:
        settings: response limit, default timeout, whether private addresses may be called.
        services: the services by name; the mapping is read anew for every call.
        clock: tells the time for `Retry-After` dates and cached documents.
        environment: where `bearer_env` is looked up; the process's own by default.
        guard: which addresses may be called; by default as the settings say.
    """

    def __init__(
        self,
        settings: PoolSettings,
        services: Mapping[str, Service],
        clock: Clock,
        environment: Mapping[str, str] | None = None,
        guard: AddressGuard | None = None,
    ) -> None:
        self._settings = settings
        self._services = services
        self._clock = clock
        self._environment = os.environ if environment is None else environment
        self._guard = guard or AddressGuard(allow_private=settings.allow_private_addresses)
        self._client: aiohttp.ClientSession | None = None
        self._documents = OpenApiDocuments(self._fetch, clock)

    async def run(self, request: TaskRequest) -> TaskOutcome:
        """Make the call; whatever goes wrong is the outcome's error."""
        started_ms = self._clock.ticks_ms()
        output: JSON = None
        error = None
        try:
            outgoing = await self._build(request)
            output = await self._send(outgoing, self._tracing(request), self._timeout_s(request))
        except WorkflowFault as fault:
            error = fault.fault
        return TaskOutcome(
            workflow_id=request.workflow_id,
            frame=request.frame,
            output=output,
            error=error,
            duration_ms=self._clock.ticks_ms() - started_ms,
            service=request.call.service,
        )

    def expire_documents(self) -> None:
        """Have API documents fetched anew when they are next needed: the catalog has changed."""
        self._documents.expire()

    async def close(self) -> None:
        """Close every connection."""
        if self._client is not None:
            await self._client.close()

    # --- building -----------------------------------------------------------------------

    async def _build(self, request: TaskRequest) -> OutgoingRequest:
        call = request.call
        if call.target == "http":
            return http_requests.from_http_arguments(call.arguments)
        if call.target == "openapi":
            return await from_openapi_arguments(call.arguments, self._documents)
        if call.target != "service":
            http_requests.refuse(f"a call of a {call.target} is not made over HTTP")
        service = self._services.get(call.service or "")
        if service is None:
            http_requests.refuse(f"there is no service {call.service!r}")
        for operation in service.operations:
            if operation.capability == call.function:
                bearer = self._bearer(service)
                return http_requests.from_capability(service, operation, call.arguments, bearer)
        http_requests.refuse(f"service {service.name} does not provide {call.function}")

    def _bearer(self, service: Service) -> str | None:
        if service.bearer_env is None:
            return None
        name = service.bearer_env
        if not may_be_sent(name, self._settings.secret_env):
            http_requests.refuse(f"environment variable {name} may not be sent to services")
        token = self._environment.get(name, "")
        if not token or not token.isascii() or not token.isprintable():
            http_requests.refuse(f"environment variable {name} holds no usable token")
        return token

    def _tracing(self, request: TaskRequest) -> dict[str, str]:
        return http_requests.trace_headers(
            {
                "Idempotency-Key": request.key,
                "traceparent": traceparent_of(request),
                "X-Orchx-Workflow": request.workflow_id,
                "X-Orchx-Task": request.reference,
                "X-Orchx-Attempt": str(request.attempt),
            }
        )

    def _timeout_s(self, request: TaskRequest) -> float:
        default_ms = self._settings.default_timeout_ms
        return call_timeout_ms(request, self._services, default_ms) / 1_000

    # --- sending ------------------------------------------------------------------------

    async def _send(
        self, request: OutgoingRequest, tracing: Mapping[str, str], timeout_s: float
    ) -> JSON:
        headers = _merge(request.headers, {"User-Agent": USER_AGENT}, tracing)
        if request.bearer is not None:
            headers["Authorization"] = f"Bearer {request.bearer}"
        timeout = aiohttp.ClientTimeout(
            total=timeout_s, sock_connect=CONNECT_TIMEOUT_S, ceil_threshold=60
        )
        method, url, body = request.method, request.url, request.body
        for _ in range(MAX_REDIRECTS + 1):
            try:
                self._guard.check_url(str(url))
                async with self._session().request(
                    method,
                    url,
                    headers=headers,
                    data=body,
                    timeout=timeout,
                    allow_redirects=False,
                ) as response:
                    target = _redirect_target(request, response)
                    if target is None:
                        return await self._receive(request, headers, response)
                    if response.status == 303 or (response.status < 303 and method == "POST"):
                        method, body = ("HEAD" if method == "HEAD" else "GET"), None
                        headers = _without(headers, _BODY_HEADERS)
            except (aiohttp.ClientError, TimeoutError, AddressRefused, ValueError) as error:
                # What an error says of itself may hold a header; only its kind is told.
                raise WorkflowFault(http_faults.transport_fault(error, _place(url))) from None
            if not http_requests.same_origin(url, target):
                headers = _without(headers, _CREDENTIALS)
            url = target
        detail = f"{_place(url)}: more than {MAX_REDIRECTS} redirects"
        raise WorkflowFault(http_faults.bad_answer("too many redirects", detail))

    async def _receive(
        self,
        request: OutgoingRequest,
        headers: Mapping[str, str],
        response: aiohttp.ClientResponse,
    ) -> JSON:
        allowed = 400 if request.follow_redirects else 300
        if not 200 <= response.status < allowed:
            body = await http_responses.read_error_body(response)
            raise WorkflowFault(
                http_faults.status_fault(
                    response.status,
                    response.headers,
                    response.content_type,
                    http_responses.redact(body, request.bearer),
                    self._clock.now_ms(),
                )
            )
        body = await http_responses.read_body(response, self._settings.max_response_bytes)
        return http_responses.shape(request, headers, response, body)

    async def _fetch(self, url: yarl.URL, limit_bytes: int) -> bytes:
        """Fetch an OpenAPI document."""
        request = OutgoingRequest(method="GET", url=url, headers={}, follow_redirects=True)
        timeout = aiohttp.ClientTimeout(total=CONNECT_TIMEOUT_S)
        for _ in range(MAX_REDIRECTS + 1):
            try:
                self._guard.check_url(str(url))
                async with self._session().get(
                    url,
                    timeout=timeout,
                    allow_redirects=False,
                    headers={"User-Agent": USER_AGENT},
                ) as response:
                    target = _redirect_target(request, response)
                    if target is None and response.status == 200:
                        return await http_responses.read_body(response, limit_bytes)
            except (aiohttp.ClientError, TimeoutError, AddressRefused, ValueError) as error:
                raise WorkflowFault(http_faults.transport_fault(error, _place(url))) from error
            if target is None:
                detail = f"{_place(url)} answered {response.status}"
                raise WorkflowFault(http_faults.bad_answer("no OpenAPI document", detail))
            url = target
        raise WorkflowFault(http_faults.bad_answer("too many redirects", _place(url)))

    def _session(self) -> aiohttp.ClientSession:
        """Return the client; made in the loop that uses it."""
        if self._client is None:
            connector = aiohttp.TCPConnector(
                resolver=GuardedResolver(self._guard),
                limit=0,  # the pool keeps the limits
                ttl_dns_cache=DNS_CACHE_S,
                keepalive_timeout=IDLE_CONNECTION_S,
            )
            self._client = aiohttp.ClientSession(
                connector=connector,
                cookie_jar=aiohttp.DummyCookieJar(),  # calls of different tenants share nothing
                trust_env=False,  # a proxy would resolve names out of the guard's sight
            )
        return self._client


def traceparent_of(request: TaskRequest) -> str:
    """Return the request's trace context, or one derived from its workflow (W3C Trace Context)."""
    if request.traceparent is not None and _TRACEPARENT.fullmatch(request.traceparent):
        return request.traceparent
    trace = hashlib.sha256(request.workflow_id.encode()).hexdigest()[:32]
    span = hashlib.sha256(request.execution.encode()).hexdigest()[:16]
    return f"00-{trace}-{span}-00"


def _redirect_target(request: OutgoingRequest, response: aiohttp.ClientResponse) -> yarl.URL | None:
    location = response.headers.get("Location")
    if not request.follow_redirects or response.status not in _FOLLOWED or not location:
        return None
    return response.url.join(yarl.URL(location))


def _merge(*sources: Mapping[str, str]) -> dict[str, str]:
    """Merge headers, names without case. orchx's own come last and win, but a User-Agent."""
    merged: dict[str, tuple[str, str]] = {}
    for source in sources:
        for name, value in source.items():
            if name == "User-Agent" and "user-agent" in merged:
                continue
            merged[name.lower()] = (name, value)
    return dict(merged.values())


def _without(headers: Mapping[str, str], names: tuple[str, ...]) -> dict[str, str]:
    return {name: value for name, value in headers.items() if name.lower() not in names}


def _place(url: yarl.URL) -> str:
    """Name a URL without its query, which may hold secrets."""
    return str(url.with_query(None).with_fragment(None))
