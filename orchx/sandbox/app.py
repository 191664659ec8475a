"""The whole sandbox as one ASGI application."""

from __future__ import annotations

import contextlib
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from orchx.sandbox.controls import Controls
from orchx.sandbox.database import open_database
from orchx.sandbox.faults import FaultBoard
from orchx.sandbox.group_commit import GroupCommit
from orchx.sandbox.inbox import Inbox
from orchx.sandbox.inbox_endpoint import InboxEndpoint
from orchx.sandbox.ledger import Ledger
from orchx.sandbox.problems import Problem
from orchx.sandbox.service_endpoint import ServiceEndpoint
from orchx.sandbox.services import SERVICES

_DELIVERY_PATH: Final = re.compile(r"/inbox/([^/]+)")


class SandboxApp:
    """Sends calls of services and deliveries on at once, all else through Starlette.

    The short way matters: the sandbox shares its two cores with what is measured.
    """

    def __init__(self, directory: Path) -> None:
        """Open what `directory` holds; it is created if missing.

        Raises:
            sqlite3.Error: the ledger cannot be opened.
        """
        self._connection = open_database(directory)
        self._commits = GroupCommit(self._connection)
        self._ledger = Ledger(self._connection, self._commits)
        faults = FaultBoard()
        self._services = {
            service.name: ServiceEndpoint(service, self._ledger, faults) for service in SERVICES
        }
        self._inbox = InboxEndpoint(Inbox(self._connection, self._commits), faults)
        controls = Controls(directory, self._ledger, faults, SERVICES)
        self._starlette = Starlette(
            routes=[*controls.routes(), *self._inbox.routes()],
            exception_handlers={Problem: _render, HTTPException: _render},
            lifespan=self._lifespan,
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection event or call."""
        if scope["type"] == "http":
            path: str = scope["path"]
            if service := self._services.get(path[1:].partition("/")[0]):
                await service(scope, receive, send)
                return
            if scope["method"] == "POST" and (match := _DELIVERY_PATH.fullmatch(path)):
                await self._inbox.deliver(scope, receive, send, match[1])
                return
        await self._starlette(scope, receive, send)

    @contextlib.asynccontextmanager
    async def _lifespan(self, _: Starlette) -> AsyncIterator[None]:
        self._commits.start()
        try:
            yield
        finally:
            await self._commits.stop()
            self._ledger.flush_counts()
            self._connection.close()


def _render(_: Request, error: Exception) -> Response:
    if isinstance(error, HTTPException):  # Starlette's own: no such path, no such method.
        error = Problem(error.status_code, "refused", error.detail)
    if not isinstance(error, Problem):
        raise error
    reply = error.reply()
    return Response(reply.body, reply.status, media_type=reply.content_type.decode())
