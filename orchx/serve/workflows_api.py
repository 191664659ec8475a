"""Workflows: what became of a request, its history, and acting on it."""

from __future__ import annotations

from typing import Final

import msgspec
from starlette.responses import Response, StreamingResponse

from orchx.domain.cloud_events import CloudEvents
from orchx.domain.keys import event_command_id
from orchx.domain.messages import AnyCommand, CancelWorkflow, DeliverEvent
from orchx.errors import Conflict, NotFound, Overloaded
from orchx.ports.gateway import HistoryPage
from orchx.ports.state_store import TERMINAL, Filter, WorkflowSummary
from orchx.serve.answers import listed_json, workflow_json
from orchx.serve.context import Api
from orchx.serve.identifiers import cancel_command_id
from orchx.serve.incoming_events import read_event
from orchx.serve.media import CLOUD_EVENTS_TYPE, read_json_request
from orchx.serve.models import CancelBody
from orchx.serve.paging import next_link
from orchx.serve.routing import Call, json_response
from orchx.serve.sse import CONTENT_TYPE as SSE_TYPE
from orchx.serve.sse import HEADERS as SSE_HEADERS
from orchx.serve.sse import last_event_id, stream
from orchx.serve.validation import read_model

MAX_ID_CHARS: Final = 255


async def show(api: Api, call: Call) -> Response:
    """`GET /v1/workflows/{id}`."""
    workflow_id = _id_of(call)
    strong = call.query.consistency == "strong"
    found = await api.gateway.show_aged(workflow_id, strong=strong)
    _check_seen(call, found.summary)
    age = {} if found.age_ms is None else {"Age": str(found.age_ms // 1000)}
    return json_response(workflow_json(found.summary, found.age_ms), 200, age)


async def list_workflows(api: Api, call: Call) -> Response:
    """`GET /v1/workflows`."""
    query = call.query
    page = await api.gateway.list(
        Filter(
            status=query.status,
            namespace=query.namespace,
            name=query.name,
            tenant=call.caller.tenant_for(query.tenant),
            type=query.type,
            created_after_ms=query.created_after,
            created_before_ms=query.created_before,
            labels=tuple((key, value) for key, value in (one.split("=", 1) for one in query.label)),
            cursor=query.cursor,
            limit=query.limit,
        )
    )
    body = {"workflows": [listed_json(one) for one in page.workflows], "cursor": page.cursor}
    headers = {}
    if page.cursor is not None:
        headers["Link"] = next_link(call.request, {"cursor": page.cursor})
    return json_response(body, 200, headers)


async def history(api: Api, call: Call) -> Response:
    """`GET /v1/workflows/{id}/history`."""
    workflow = await _visible(api, call)
    after, limit = call.query.after, call.query.limit
    events, page = await _history(api, workflow, after, limit)
    headers = {}
    if page.more:
        following = {"after": str(page.records[-1].offset), "limit": str(limit)}
        headers["Link"] = next_link(call.request, following)
    rendered = msgspec.json.encode([events.render(record) for record in page.records])
    return Response(rendered, 200, headers, CLOUD_EVENTS_TYPE)


async def follow(api: Api, call: Call) -> Response:
    """`GET /v1/workflows/{id}/events`."""
    resumed = last_event_id(call.request.headers.getlist("last-event-id"))
    after = call.query.after if resumed is None else resumed
    workflow = await _visible(api, call)
    events, page = await _history(api, workflow, after, 1)
    if workflow.status in TERMINAL and not page.records:
        return Response(status_code=204)
    if not api.streams.free:
        raise Overloaded("too many streams are open already", retry_after_s=5)
    body = stream(api, workflow, events, after)
    return StreamingResponse(body, 200, dict(SSE_HEADERS), SSE_TYPE)


async def send_event(api: Api, call: Call) -> Response:
    """`POST /v1/workflows/{id}/events`."""
    event = await read_event(call.request, max_depth=api.settings.max_depth)
    workflow = await _visible(api, call)
    return await _deliver(api, call, workflow.workflow_id, event)


async def broadcast_event(api: Api, call: Call) -> Response:
    """`POST /v1/events`."""
    event = await read_event(call.request, max_depth=api.settings.max_depth)
    return await _deliver(api, call, "", event)


async def cancel(api: Api, call: Call) -> Response:
    """`POST /v1/workflows/{id}/cancel`."""
    raw = await call.request.body()
    body = CancelBody()
    if raw:
        given = read_json_request(raw, call.request, api.settings.max_depth)
        body = read_model(CancelBody, given)
    workflow = await _visible(api, call)
    workflow_id = workflow.workflow_id
    command = CancelWorkflow(
        id=cancel_command_id(workflow_id, body.reason, call.caller.name),
        workflow_id=workflow_id,
        created_at_ms=api.now_ms(),
        traceparent=call.traceparent,
        reason=body.reason,
        by=call.caller.name,
    )
    if workflow.status == "cancelled":
        return _command_answer(command.id, replayed=True)
    if workflow.status in TERMINAL:
        raise Conflict(f"the workflow has {workflow.status} already")
    return await _command(api, command)


async def _deliver(api: Api, call: Call, workflow_id: str, event: dict[str, object]) -> Response:
    command = DeliverEvent(
        id=event_command_id(workflow_id, str(event["source"]), str(event["id"])),
        workflow_id=workflow_id,
        created_at_ms=api.now_ms(),
        traceparent=call.traceparent,
        event=event,
    )
    return await _command(api, command)


async def _command(api: Api, command: AnyCommand) -> Response:
    (accepted,) = await api.gateway.submit([command])
    return _command_answer(command.id, replayed=accepted.duplicate)


def _command_answer(command_id: str, *, replayed: bool) -> Response:
    headers = {"Idempotency-Replayed": "true"} if replayed else {}
    return json_response({"commandId": command_id, "replayed": replayed}, 202, headers)


async def _visible(api: Api, call: Call) -> WorkflowSummary:
    """Return the workflow of the path, if it exists for the caller."""
    workflow = await api.gateway.show(_id_of(call))
    _check_seen(call, workflow)
    return workflow


def _id_of(call: Call) -> str:
    """Return the id in the path; one that no workflow can have is not looked up."""
    workflow_id: str = call.request.path_params["id"]
    possible = len(workflow_id) <= MAX_ID_CHARS and workflow_id.isascii()
    if not (possible and workflow_id.isprintable()):
        raise _missing(workflow_id)
    return workflow_id


def _check_seen(call: Call, workflow: WorkflowSummary) -> None:
    if not call.caller.sees(workflow.tenant):
        raise _missing(workflow.workflow_id)


def _missing(workflow_id: str) -> NotFound:
    return NotFound(f"there is no workflow {workflow_id}")


async def _history(
    api: Api, workflow: WorkflowSummary, after: int, limit: int
) -> tuple[CloudEvents, HistoryPage]:
    """Return a part of the history, and what shows it: it knows the tasks begun before."""
    events = CloudEvents(
        workflow.workflow_id,
        namespace=workflow.namespace,
        name=workflow.name,
        correlation_id=workflow.correlation_id,
    )
    try:
        page = await api.gateway.history(
            workflow.workflow_id, after_offset=after, limit=limit, learn=events.learn
        )
    except NotFound:  # accepted, but not begun: nothing has happened yet
        page = HistoryPage(records=(), more=False)
    return events, page
