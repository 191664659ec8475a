"""HTTP for the inbox: `POST /inbox/{system}` and what reads it."""

from __future__ import annotations

from typing import Final

from msgspec import Struct
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from orchx.sandbox.faults import FaultBoard
from orchx.sandbox.inbox import PAGE_MAX_DELIVERIES, Inbox
from orchx.sandbox.query import PageQuery, json_response, read_document, read_query
from orchx.sandbox.replies import Reply
from orchx.sandbox.wire import exchange

FAULT_SERVICE: Final = "inbox"


class WebhookSecret(Struct, frozen=True, forbid_unknown_fields=True):
    """The secret that a system shares with the sender: `whsec_` and base64."""

    secret: str


class InboxEndpoint:
    """Routes of the inbox. Deliveries can be disturbed as service `inbox`, operation = system."""

    def __init__(self, inbox: Inbox, faults: FaultBoard) -> None:
        self._inbox = inbox
        self._faults = faults

    def routes(self) -> list[Route]:
        """Return the routes; `/inbox/summary` stands before the systems."""
        return [
            Route("/inbox/summary", self._summary, methods=["GET"]),
            Route("/inbox/{system}/secret", self._put_secret, methods=["PUT"]),
            Route("/inbox/{system}", self._list, methods=["GET"]),
        ]

    async def deliver(self, scope: Scope, receive: Receive, send: Send, system: str) -> None:
        """Take one delivery; an ASGI application but for `system`."""
        fault = self._faults.draw(FAULT_SERVICE, system)
        headers = {str(name, "latin-1"): str(value, "latin-1") for name, value in scope["headers"]}

        async def answer(body: bytes) -> Reply:
            return await self._inbox.receive(system, headers, body)

        await exchange(scope, receive, send, fault, answer)

    async def _summary(self, _: Request) -> Response:
        return json_response(self._inbox.summary())

    async def _list(self, request: Request) -> Response:
        query = read_query(request, PageQuery)
        limit = min(query.limit, PAGE_MAX_DELIVERIES)
        return json_response(self._inbox.page(request.path_params["system"], query.since, limit))

    async def _put_secret(self, request: Request) -> Response:
        document = await read_document(request, WebhookSecret)
        await self._inbox.register_secret(request.path_params["system"], document.secret)
        return Response(status_code=204)
