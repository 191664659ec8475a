"""Plans about workflows: start them, watch them, tell them something, end them."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any, Final, TypeAlias

import msgspec

from orchx.client.exchange import JSON_TYPE, call, decode, encode, pages, query_of, segment
from orchx.client.models import (
    CommandReceipt,
    Consistency,
    Event,
    Submission,
    Workflow,
    WorkflowRequest,
)
from orchx.client.steps import Now, Pause, Plan, Reply, Send
from orchx.errors import DriverError, InvalidRequest, OrchxError

Request: TypeAlias = WorkflowRequest | Mapping[str, Any]

MAX_PAGE: Final = 500
MAX_SERVER_WAIT_S: Final = 60.0
WAIT_MARGIN_S: Final = 15.0  # what an answer may take beyond the wait that was asked for
POLL_FIRST_S: Final = 0.05
POLL_MAX_S: Final = 2.0
_POLL_GROWTH: Final = 1.5
_EVENT_TYPE: Final = "application/cloudevents+json"


class _Accepted(msgspec.Struct, frozen=True):
    id: str
    status: str


class _BatchItem(msgspec.Struct, frozen=True):
    workflow: _Accepted
    replayed: bool = False


class _Batch(msgspec.Struct, frozen=True):
    results: list[_BatchItem]


class _WorkflowPage(msgspec.Struct, frozen=True):
    workflows: list[Workflow]


def submit(
    request: Request, *, key: str | None = None, wait_s: float | None = None
) -> Plan[Submission]:
    """Submit one request, once, however often it has to be sent.

    Args:
        request: what is asked for; a mapping has the HTTP API's names.
        key: the same key with the same request is the same workflow. Made if not given.
        wait_s: seconds to wait for the end; the result's `workflow` is then there, over
            or not.

    Raises:
        InvalidRequest: something is wrong with the request; `violations` say what.
        Conflict: the key was used for another request.
        Overloaded: the tenant's share of the backlog is full.
        Unavailable: the backlog is full, or the server out of reach or silent, through all
            retries. It may have taken the request: submit it again with the error's
            `idempotency_key`, as any error's of this method.
    """
    body = _as_mapping(request)
    given = key or body.get("idempotencyKey")
    key = str(given or _fresh_key())
    with _key_on_errors(key):
        done = yield from _submit(body, key, wait_s)
    # A key that was made here can only have been used by this very call, sent twice.
    return done if given else msgspec.structs.replace(done, replayed=False)


def _submit(body: Mapping[str, Any], key: str, wait_s: float | None) -> Plan[Submission]:
    started_s: float = yield Now()
    server_wait_s = min(max(wait_s or 0.0, 0.0), MAX_SERVER_WAIT_S)
    send = Send(
        method="POST",
        path="/v1/requests",
        query=query_of(wait=f"{server_wait_s:g}") if server_wait_s else {},
        headers={"Content-Type": JSON_TYPE, "Idempotency-Key": _header(key)},
        body=encode(body),
        read_timeout_s=server_wait_s + WAIT_MARGIN_S if server_wait_s else None,
        retry_silence=True,
    )
    reply = yield from call(send)
    workflow: Workflow | None = None
    if reply.status == 200:
        workflow = decode(reply, Workflow)
        accepted = _Accepted(id=workflow.id, status=workflow.status)
    else:
        accepted = decode(reply, _Accepted)
        if wait_s is not None:
            now_s: float = yield Now()
            left_s = max(wait_s - (now_s - started_s), 0.0)
            workflow = yield from wait(accepted.id, timeout_s=left_s)
    return Submission(
        id=accepted.id,
        status=accepted.status if workflow is None else workflow.status,
        idempotency_key=key,
        replayed=_was_replayed(reply),
        workflow=workflow,
    )


def submit_batch(
    requests: Sequence[Request], *, key: str | None = None
) -> Plan[tuple[Submission, ...]]:
    """Submit many requests at once: all are stored, or none.

    Args:
        requests: as for `submit`, up to the server's limit (1000 by default).
        key: covers those that have no key of their own, by position. Made if not given.

    Raises:
        InvalidRequest: pointers of `violations` begin with the request's index: `/3/input`.
        OrchxError: as for `submit`, with the `idempotency_key` to submit them again.
    """
    bodies = [_as_mapping(request) for request in requests]
    given = [bool(key or body.get("idempotencyKey")) for body in bodies]
    key = key or _fresh_key()
    with _key_on_errors(key):
        reply = yield from call(
            Send(
                method="POST",
                path="/v1/requests",
                headers={"Content-Type": JSON_TYPE, "Idempotency-Key": _header(key)},
                body=encode(bodies),
                retry_silence=True,
            )
        )
        results = decode(reply, _Batch).results
    return tuple(
        Submission(
            id=item.workflow.id,
            status=item.workflow.status,
            replayed=item.replayed and was_given,
        )
        for item, was_given in zip(results, given, strict=False)
    )


def show(workflow_id: str, *, consistency: Consistency | None = None) -> Plan[Workflow]:
    """Return one workflow.

    Args:
        workflow_id: which.
        consistency: `eventual` (the server's default) is as of `age_ms` ago, and waits 0.25 s at
            most to know that; `strong` waits until all is in it that was durable when it was
            asked for.

    Raises:
        NotFound: there is none, or the key may not see it.
        Unavailable: a strong read cannot be had now, through all retries.
    """
    query = query_of(consistency=consistency)
    reply = yield from call(Send(method="GET", path=workflow_path(workflow_id), query=query))
    return decode(reply, Workflow)


def wait(workflow_id: str, *, timeout_s: float | None = None) -> Plan[Workflow]:
    """Wait until a workflow is over and return it, or as it is when time is up.

    Args:
        workflow_id: whose end to wait for.
        timeout_s: None waits as long as it takes. `ended` of the result tells which it was.
    """
    started_s: float = yield Now()
    pause_s = POLL_FIRST_S
    while True:
        workflow = yield from show(workflow_id)
        now_s: float = yield Now()
        left_s = float("inf") if timeout_s is None else timeout_s - (now_s - started_s)
        if workflow.ended or left_s <= 0:
            return workflow
        yield Pause(seconds=min(pause_s, left_s))
        pause_s = min(pause_s * _POLL_GROWTH, POLL_MAX_S)


def list_workflows(
    *,
    status: Sequence[str] | None = None,
    namespace: str | None = None,
    name: str | None = None,
    tenant: str | None = None,
    type: str | None = None,
    label: Mapping[str, str] | None = None,
    created_after: datetime | None = None,
    created_before: datetime | None = None,
    limit: int | None = None,
    page_size: int | None = None,
) -> Plan[None]:
    """Iterate over workflows, newest first; pages are fetched as they are needed.

    Args:
        status: any of these.
        namespace: of the definition.
        name: of the definition.
        tenant: of the request.
        type: of the request.
        label: all of these.
        created_after: must know its time zone.
        created_before: must know its time zone.
        limit: how many at most; None for all.
        page_size: how many per request to the server, 1 to 500.
    """
    size = max(1, min(MAX_PAGE, limit or MAX_PAGE, page_size or MAX_PAGE))
    query = query_of(
        status=None if status is None else list(status),
        namespace=namespace,
        name=name,
        tenant=tenant,
        type=type,
        label=label,
        created_after=created_after,
        created_before=created_before,
        limit=size,
    )
    first = Send(method="GET", path="/v1/workflows", query=query)
    return pages(first, lambda reply: decode(reply, _WorkflowPage).workflows, limit)


def history(workflow_id: str, *, after: int | None = None, limit: int | None = None) -> Plan[None]:
    """Iterate over what has happened to a workflow, oldest first.

    Args:
        workflow_id: whose events.
        after: only what stands behind this log offset.
        limit: how many per request to the server, 1 to 1000.
    """
    path = f"{workflow_path(workflow_id)}/history"
    query = query_of(after=after, limit=limit)
    first = Send(method="GET", path=path, query=query)
    return pages(first, lambda reply: map(event_of, decode(reply, list[dict[str, Any]])))


def signal(
    workflow_id: str,
    type: str,
    data: Any = None,
    *,
    source: str | None = None,
    event_id: str | None = None,
    subject: str | None = None,
) -> Plan[CommandReceipt]:
    """Send an event to one workflow.

    Args:
        workflow_id: who gets it.
        type: the CloudEvents type that the workflow listens for.
        data: any JSON.
        source: who sends; default `orchx-client`.
        event_id: with `source` it names the event: sent again, it counts once. Made if not
            given.
        subject: what the event is about.

    Raises:
        Conflict: an event with this source and id, and another content, was sent before.
    """
    return _send_event(
        f"{workflow_path(workflow_id)}/events", _cloud_event(type, data, source, event_id, subject)
    )


def broadcast(
    type: str,
    data: Any = None,
    *,
    source: str | None = None,
    event_id: str | None = None,
    subject: str | None = None,
) -> Plan[CommandReceipt]:
    """Send an event to every workflow that listens for it; arguments as for `signal`."""
    return _send_event("/v1/events", _cloud_event(type, data, source, event_id, subject))


def cancel(workflow_id: str, *, reason: str | None = None) -> Plan[CommandReceipt]:
    """Ask for a workflow to end where it stands; what it has done stays done.

    Raises:
        Conflict: it is over already.
    """
    reply = yield from call(
        Send(
            method="POST",
            path=f"{workflow_path(workflow_id)}/cancel",
            headers={"Content-Type": JSON_TYPE},
            body=encode({} if reason is None else {"reason": reason}),
        )
    )
    return decode(reply, CommandReceipt)


def workflow_path(workflow_id: str) -> str:
    """Return where a workflow is found."""
    return f"/v1/workflows/{segment(workflow_id, 'workflow id')}"


def event_of(raw: Mapping[str, Any]) -> Event:
    """Return a CloudEvent's JSON object as a typed event.

    Raises:
        DriverError: it is none.
    """
    try:
        return msgspec.structs.replace(msgspec.convert(raw, Event), raw=raw)
    except msgspec.ValidationError as error:
        raise DriverError(f"the server sent an event that is none: {error}") from error


def _send_event(path: str, event: Mapping[str, Any]) -> Plan[CommandReceipt]:
    reply = yield from call(
        Send(method="POST", path=path, headers={"Content-Type": _EVENT_TYPE}, body=encode(event))
    )
    return decode(reply, CommandReceipt)


def _cloud_event(
    type: str, data: Any, source: str | None, event_id: str | None, subject: str | None
) -> dict[str, Any]:
    event = {
        "specversion": "1.0",
        "id": event_id or str(uuid.uuid4()),
        "source": source or "orchx-client",
        "type": type,
    }
    if subject is not None:
        event["subject"] = subject
    return event if data is None else {**event, "datacontenttype": JSON_TYPE, "data": data}


def _as_mapping(request: Request) -> dict[str, Any]:
    if isinstance(request, Mapping):
        return dict(request)
    body: dict[str, Any] = msgspec.to_builtins(request)
    return body


def _fresh_key() -> str:
    return f"client-{uuid.uuid4()}"


@contextmanager
def _key_on_errors(key: str) -> Iterator[None]:
    """Let nobody lose the key of a submission of which nobody knows whether it was taken."""
    try:
        yield
    except OrchxError as error:
        error.idempotency_key = key
        raise


def _header(key: str) -> str:
    if not (key.isascii() and key.isprintable() and " " not in key):
        raise InvalidRequest(f"the idempotency key {key!r} must be visible ASCII characters")
    return key


def _was_replayed(reply: Reply) -> bool:
    return reply.headers.get("idempotency-replayed", "").lower() == "true"
