"""HTTP for whoever runs the sandbox: reads the ledger, sets and resets faults."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from orchx.sandbox.faults import FaultBoard, FaultSettings
from orchx.sandbox.inbox_endpoint import FAULT_SERVICE
from orchx.sandbox.ledger import Ledger
from orchx.sandbox.ledger_report import read_attempts, read_page, read_summary
from orchx.sandbox.operations import Service
from orchx.sandbox.problems import Problem
from orchx.sandbox.query import PageQuery, json_response, read_document, read_query

_FAULT_PATHS: Final = ("/faults/{service}", "/faults/{service}/{operation}")


class LedgerQuery(PageQuery, frozen=True, kw_only=True):
    """Which effects: of one workflow, or of all."""

    workflow: str | None = None


class Controls:
    """Routes `/ledger`, `/faults` and `/health`."""

    def __init__(
        self, directory: Path, ledger: Ledger, faults: FaultBoard, services: tuple[Service, ...]
    ) -> None:
        self._directory = directory
        self._ledger = ledger
        self._faults = faults
        self._operations = {
            service.name: {operation.operation_id for operation in service.operations}
            for service in services
        }

    def routes(self) -> list[Route]:
        """Return the routes."""
        return [
            Route("/health", self._health, methods=["GET"]),
            Route("/ledger", self._get_ledger, methods=["GET"]),
            Route("/ledger/summary", self._get_summary, methods=["GET"]),
            Route("/ledger/attempts/{key}", self._get_attempts, methods=["GET"]),
            Route("/faults", self._get_faults, methods=["GET"]),
            Route("/faults", self._reset_faults, methods=["DELETE"]),
            *(Route(path, self._put_faults, methods=["PUT"]) for path in _FAULT_PATHS),
            *(Route(path, self._reset_faults, methods=["DELETE"]) for path in _FAULT_PATHS),
        ]

    async def _health(self, _: Request) -> Response:
        return json_response({"status": "ok", "services": sorted(self._operations)})

    async def _get_ledger(self, request: Request) -> Response:
        query = read_query(request, LedgerQuery)
        page = await asyncio.to_thread(
            read_page, self._directory, query.since, query.limit, query.workflow
        )
        return json_response(page)

    async def _get_summary(self, _: Request) -> Response:
        self._ledger.flush_counts()
        return json_response(await asyncio.to_thread(read_summary, self._directory))

    async def _get_attempts(self, request: Request) -> Response:
        self._ledger.flush_counts()
        key = request.path_params["key"]
        return json_response(await asyncio.to_thread(read_attempts, self._directory, key))

    async def _get_faults(self, _: Request) -> Response:
        return json_response(self._faults.report())

    async def _put_faults(self, request: Request) -> Response:
        service, operation = self._target(request)
        settings = await read_document(request, FaultSettings)
        self._faults.configure(service, operation, settings)
        return json_response(settings)

    async def _reset_faults(self, request: Request) -> Response:
        if request.path_params:
            self._faults.reset(*self._target(request))
        else:
            self._faults.reset()
        return Response(status_code=204)

    def _target(self, request: Request) -> tuple[str, str | None]:
        service: str = request.path_params["service"]
        operation: str | None = request.path_params.get("operation")
        if service == FAULT_SERVICE:  # Its operations are systems, which nobody declares.
            return service, operation
        if service not in self._operations:
            raise Problem(404, "unknown-service", f"There is no service {service}.")
        if operation is not None and operation not in self._operations[service]:
            raise Problem(404, "unknown-operation", f"{service} has no operation {operation}.")
        return service, operation
