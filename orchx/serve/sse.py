"""A workflow's events as they happen: Server-Sent Events.

Source: WHATWG HTML, "Server-sent events". The event id is the log offset, so a client that
lost its connection goes on after the last event it saw.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Final

import msgspec
import structlog

from orchx.domain.cloud_events import CloudEvents, cloud_event_type
from orchx.domain.events import TERMINAL_EVENTS, Record
from orchx.errors import InvalidRequest, Violation
from orchx.ports.state_store import TERMINAL, WorkflowSummary
from orchx.serve.context import Api
from orchx.serve.json_body import describe

CONTENT_TYPE: Final = "text/event-stream"
# Proxies must neither keep nor gather what is to be seen at once.
HEADERS: Final = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
HEARTBEAT: Final = b": heartbeat\n\n"
MAX_OFFSET_DIGITS: Final = 18

_log = structlog.get_logger("orchx.serve")


def last_event_id(given: Iterable[str]) -> int | None:
    """Return the offset of a `Last-Event-ID` header; None if there is none.

    Raises:
        InvalidRequest: it is no offset that a stream gave.
    """
    values = list(given)
    if not values:
        return None
    text = values[0].strip()
    if len(values) == 1 and text.isascii() and text.isdigit() and len(text) <= MAX_OFFSET_DIGITS:
        return int(text)
    fault = Violation(
        pointer="header:Last-Event-ID",
        message="is not the id of an event",
        found=describe(values[0]),
        expected="the id of the last event that was received",
    )
    raise InvalidRequest("the Last-Event-ID header is wrong", (fault,))


async def stream(
    api: Api, workflow: WorkflowSummary, events: CloudEvents, after: int
) -> AsyncIterator[bytes]:
    """Yield the bytes of the stream until the workflow's last event has been sent.

    The answer has begun, so an error can only be logged and end the stream: the client
    connects again from where it was.
    """
    last = after
    try:
        with api.streams.take():
            records = api.gateway.follow(workflow.workflow_id, after_offset=after)
            async with _closing(records):
                async for record in records:
                    if record is not None:
                        yield _frame(record, events)
                        last = record.offset
                        if isinstance(record.event, TERMINAL_EVENTS):
                            return
                        continue
                    yield HEARTBEAT
                    # A client that resumed after the last event would wait for ever.
                    if (await api.gateway.show(workflow.workflow_id)).status in TERMINAL:
                        async for missed in _rest(api, workflow.workflow_id, last):
                            yield _frame(missed, events)
                        return
    except Exception as error:  # the edge: nobody above could still answer with a problem
        _log.error("stream ended", workflow_id=workflow.workflow_id, exc_info=error)


async def _rest(api: Api, workflow_id: str, after: int) -> AsyncIterator[Record]:
    while True:
        page = await api.gateway.history(workflow_id, after_offset=after)
        for record in page.records:
            after = record.offset
            yield record
        if not page.more:
            return


@asynccontextmanager
async def _closing(records: AsyncIterator[Record | None]) -> AsyncIterator[None]:
    """Close an iterator that is a generator, so that it lets go of what it follows."""
    try:
        yield
    finally:
        if isinstance(records, AsyncGenerator):
            await records.aclose()


def _frame(record: Record, events: CloudEvents) -> bytes:
    head = f"id: {record.offset}\nevent: {cloud_event_type(record.event)}\ndata: "
    return head.encode() + msgspec.json.encode(events.render(record)) + b"\n\n"
