"""The plan that follows a workflow live, over as many connections as it takes."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from orchx.client.problems import error_of
from orchx.client.retries import RetryPolicy
from orchx.client.server_sent_events import EventStreamParser, ServerSentEvent
from orchx.client.steps import Emit, Lost, Pause, Plan, Read, Reply, Send
from orchx.client.workflow_operations import event_of, workflow_path
from orchx.errors import DriverError, TryLater, Unavailable

SILENCE_S: Final = 45.0  # three missed heartbeats
MAX_FRUITLESS: Final = 8  # connections in a row that brought nothing, not even a heartbeat
MAX_DELAY_S: Final = 5.0
TERMINAL_TYPES: Final = frozenset(
    f"io.serverlessworkflow.workflow.{end}.v1" for end in ("completed", "faulted", "cancelled")
)


def follow(workflow_id: str, *, after: int | None = None) -> Plan[None]:
    """Iterate over a workflow's events as they happen, until it is over.

    What has happened before comes first. A broken connection is taken up again where it
    broke: no event is missed, none comes twice.

    Args:
        workflow_id: whom to follow.
        after: only what stands behind this log offset.

    Raises:
        NotFound: there is no such workflow.
        Unavailable: the server stayed out of reach through `MAX_FRUITLESS` attempts.
    """
    last = "" if after is None else str(after)
    path = f"{workflow_path(workflow_id)}/events"
    policy = RetryPolicy(limit=MAX_FRUITLESS - 1, max_delay_s=MAX_DELAY_S)
    fruitless = 0
    while True:
        headers = {"Accept": "text/event-stream", **({"Last-Event-ID": last} if last else {})}
        reply = yield Send(
            method="GET",
            path=path,
            headers=headers,
            read_timeout_s=SILENCE_S,
            stream=True,
            retry=False,
        )
        if isinstance(reply, Reply) and reply.status == 204:
            return
        failure = _failure_of(reply)
        if failure is None:
            parser, heard = EventStreamParser(), False
            while not isinstance(piece := (yield Read()), Lost) and piece:
                heard = True
                for message in parser.feed(piece):
                    if _is_old(message.id, last):
                        continue
                    event = event_of(_json_of(message))
                    last = message.id or last
                    yield Emit(value=event)
                    if event.type in TERMINAL_TYPES:
                        return
            fruitless = 0 if heard else fruitless
            failure = Unavailable("the server keeps ending the event stream")
            if isinstance(piece, Lost):
                failure = Unavailable(piece.reason)
        fruitless += 1
        delay_s = policy.delay_s(fruitless, min(failure.retry_after_s, MAX_DELAY_S))
        if delay_s is None:
            raise failure
        yield Pause(seconds=delay_s if fruitless > 1 else policy.first_delay_s)


def _failure_of(reply: Any) -> TryLater | None:
    """Return why there is no stream, if that may pass; raise what will not."""
    if isinstance(reply, Lost):
        return Unavailable(reply.reason, retry_after_s=0.0)
    if reply.status == 200:
        return None
    error = error_of(reply)
    if isinstance(error, TryLater):
        return error
    raise error


def _is_old(event_id: str, last: str) -> bool:
    """Tell whether an event came before; offsets only grow."""
    if event_id.isdecimal() and last.isdecimal():
        return int(event_id) <= int(last)
    return bool(last) and event_id == last


def _json_of(message: ServerSentEvent) -> dict[str, Any]:
    try:
        return msgspec.json.decode(message.data, type=dict[str, Any])
    except msgspec.MsgspecError as error:
        raise DriverError(f"the event stream holds what is no event: {error}") from error
