"""Running the server: health, metrics, webhook deliveries, and what is here."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Final

from starlette.responses import Response

from orchx.errors import Unavailable
from orchx.ports.gateway import Readiness
from orchx.serve.answers import delivery_json
from orchx.serve.context import Api
from orchx.serve.media import read_json_request
from orchx.serve.models import ReplayBody
from orchx.serve.paging import cursor_behind, next_link, place_of
from orchx.serve.routing import Call, json_response
from orchx.serve.validation import read_model

METRICS_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"


def release() -> str:
    """Return the installed version of orchx."""
    try:
        return version("orchx")
    except PackageNotFoundError:  # run from a source tree
        return "0+unknown"


_INDEX: Final = {
    "name": "orchx",
    "version": release(),
    "links": {
        "requests": "/v1/requests",
        "workflows": "/v1/workflows",
        "definitions": "/v1/definitions",
        "services": "/v1/services",
        "deliveries": "/v1/deliveries",
        "deadLetters": "/v1/dead-letters",
        "openapi": "/openapi.json",
        "health": "/healthz",
        "readiness": "/readyz",
        "metrics": "/metrics",
    },
}


class NotReady(Unavailable):
    """Requests cannot be taken now; `parts` says which part is why."""

    def __init__(self, parts: Mapping[str, str]) -> None:
        super().__init__("requests cannot be taken now")
        self.parts = parts


async def index(api: Api, call: Call) -> Response:
    """`GET /`."""
    return json_response(_INDEX)


async def health(api: Api, call: Call) -> Response:
    """`GET /healthz`: this process answers, whatever the state of the rest."""
    return json_response({"status": "ok"})


async def ready(api: Api, call: Call) -> Response:
    """`GET /readyz`."""
    readiness: Readiness = await api.gateway.ready()
    if not readiness.ready:
        raise NotReady(readiness.parts)
    return json_response({"ready": True, "parts": dict(readiness.parts)})


async def metrics(api: Api, call: Call) -> Response:
    """`GET /metrics`."""
    return Response(await api.gateway.metrics(), 200, {"Content-Type": METRICS_TYPE})


async def list_deliveries(api: Api, call: Call) -> Response:
    """`GET /v1/deliveries`."""
    query = call.query
    found = await api.gateway.deliveries.list(
        status=query.status,
        workflow_id=query.workflow,
        after=place_of(query.cursor),
        limit=query.limit + 1,  # one more tells whether there are more
    )
    page = found[: query.limit]
    cursor = cursor_behind(page[-1].place) if len(found) > len(page) else None
    headers = {} if cursor is None else {"Link": next_link(call.request, {"cursor": cursor})}
    body = {"deliveries": [delivery_json(one) for one in page], "cursor": cursor}
    return json_response(body, 200, headers)


async def replay_deliveries(api: Api, call: Call) -> Response:
    """`POST /v1/deliveries/replay`."""
    raw = read_json_request(await call.request.body(), call.request, api.settings.max_depth)
    body = read_model(ReplayBody, raw)
    count = await api.gateway.deliveries.replay(body.ids, now_ms=api.now_ms())
    return json_response({"replayed": count})
