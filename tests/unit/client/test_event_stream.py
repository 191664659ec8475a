"""Following a workflow over connections that break, and the parser below it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchx.client import AsyncClient, Client, event_stream
from orchx.client.event_stream import follow
from orchx.client.server_sent_events import EventStreamParser
from orchx.client.steps import Emit, Lost, Pause, Plan, Read, Reply, Send
from orchx.errors import DriverError, NotFound, Unavailable

TASK = "io.serverlessworkflow.task.completed.v1"
END = "io.serverlessworkflow.workflow.completed.v1"
OK = Reply(status=200, headers={"content-type": "text/event-stream"})
BROKEN = Lost(reason="it broke")


def event(offset: int, kind: str = TASK) -> bytes:
    body = json.dumps({"id": f"wf_1/1/{offset}", "type": kind, "logoffset": str(offset)})
    return f"id: {offset}\nevent: {kind}\ndata: {body}\n\n".encode()


def perform(plan: Plan[None], *replies: Any) -> tuple[list[str], list[Send], list[float]]:
    """Feed a plan with replies; return the offsets, the requests and the pauses."""
    script, reply = list(replies), None
    offsets: list[str] = []
    sent: list[Send] = []
    pauses: list[float] = []
    while True:
        try:
            step = plan.send(reply)
        except StopIteration:
            assert not script, "the plan ended early"
            return offsets, sent, pauses
        reply = None
        if isinstance(step, Emit):
            offsets.append(step.value.logoffset)
        elif isinstance(step, Pause):
            pauses.append(step.seconds)
        elif isinstance(step, Send):
            sent.append(step)
            reply = script.pop(0)
        elif isinstance(step, Read):
            reply = script.pop(0)


def test_it_ends_with_the_workflow() -> None:
    offsets, sent, pauses = perform(follow("wf_1"), OK, event(1) + event(2), event(3, END))
    assert (offsets, pauses) == (["1", "2", "3"], [])
    assert sent[0].path == "/v1/workflows/wf_1/events"
    assert "Last-Event-ID" not in sent[0].headers


def test_a_broken_stream_is_taken_up_where_it_broke() -> None:
    half = event(2)[:-9]
    offsets, sent, pauses = perform(
        follow("wf_1"), OK, event(1) + half, BROKEN, OK, event(2) + event(3, END)
    )
    assert offsets == ["1", "2", "3"]
    assert sent[1].headers["Last-Event-ID"] == "1"
    assert len(pauses) == 1


def test_no_event_comes_twice() -> None:
    offsets, _, _ = perform(
        follow("wf_1", after=1), OK, event(1) + event(2), b"", OK, event(2), event(3, END)
    )
    assert offsets == ["2", "3"]


def test_nothing_more_to_come_is_the_end() -> None:
    gone = Reply(status=204, headers={})
    assert perform(follow("wf_1", after=7), gone)[0] == []
    assert perform(follow("wf_1"), OK, event(1), b"", gone)[0] == ["1"]


def test_it_gives_up_on_a_server_that_stays_away() -> None:
    with pytest.raises(Unavailable, match="it broke"):
        perform(follow("wf_1"), *[BROKEN] * event_stream.MAX_FRUITLESS)
    with pytest.raises(Unavailable, match="keeps ending"):
        perform(follow("wf_1"), *[OK, b""] * event_stream.MAX_FRUITLESS)


def test_a_heartbeat_is_a_sign_of_life() -> None:
    lives = [OK, b": heartbeat\n\n", BROKEN] * (2 * event_stream.MAX_FRUITLESS)
    offsets, _, pauses = perform(follow("wf_1"), *lives, OK, event(1, END))
    assert offsets == ["1"]
    assert max(pauses) <= 2 * event_stream.MAX_DELAY_S


def test_an_unknown_workflow_is_not_asked_for_again() -> None:
    with pytest.raises(NotFound):
        perform(follow("wf_1"), Reply(status=404, headers={}))


def test_events_that_are_none_are_refused() -> None:
    with pytest.raises(DriverError):
        perform(follow("wf_1"), OK, b"data: nonsense\n\n")
    with pytest.raises(DriverError):
        perform(follow("wf_1"), OK, b'data: {"id": 5}\n\n')


class Pieces(httpx.SyncByteStream, httpx.AsyncByteStream):
    """A body in pieces, which may break; remembers whether it was closed."""

    def __init__(self, *pieces: bytes, error: Exception | None = None) -> None:
        self.pieces, self.error, self.closed = pieces, error, False

    def __iter__(self) -> Iterator[bytes]:
        yield from self.pieces
        if self.error is not None:
            raise self.error

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for piece in self:
            yield piece

    def close(self) -> None:
        self.closed = True

    async def aclose(self) -> None:
        self.closed = True


def _transport(*streams: Pieces) -> tuple[httpx.MockTransport, list[httpx.Request]]:
    waiting, requests = list(streams), []

    def answer(request: httpx.Request) -> httpx.Response:
        requests.append(request)
        return httpx.Response(200, stream=waiting.pop(0))

    return httpx.MockTransport(answer), requests


@pytest.mark.parametrize("error", [httpx.ReadError("reset"), httpx.ReadTimeout("silent")])
def test_the_blocking_client_reconnects(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    transport, requests = _transport(Pieces(event(1), error=error), Pieces(event(2, END)))
    with Client("http://orchx", transport=transport) as client:
        assert [each.logoffset for each in client.follow("wf_1")] == ["1", "2"]
    assert requests[1].headers["last-event-id"] == "1"


def test_leaving_early_closes_the_stream() -> None:
    stream = Pieces(event(1), event(2), event(3))
    transport, _ = _transport(stream)
    with Client("http://orchx", transport=transport) as client:
        following = client.follow("wf_1")
        assert next(following).raw["logoffset"] == "1"
        del following
    assert stream.closed


async def test_the_async_client_follows_and_closes() -> None:
    stream = Pieces(event(1), event(2, END))
    transport, _ = _transport(stream)
    async with AsyncClient("http://orchx", transport=transport) as client:
        assert [each.type async for each in client.follow("wf_1")] == [TASK, END]
    assert stream.closed


@given(st.lists(st.integers(1, 40)), st.sampled_from(["\n", "\r\n", "\r"]))
def test_pieces_may_be_cut_anywhere(cuts: list[int], line_end: str) -> None:
    text = "\n".join([": hi", "id: 1", "data: é", "data:b", "", "id: 2", "event: x", "data: c", ""])
    raw = (text + "\n").replace("\n", line_end).encode() + b"data: never finished"
    parser, events = EventStreamParser(), []
    for cut in cuts:
        piece, raw = raw[:cut], raw[cut:]
        events += parser.feed(piece)
    events += parser.feed(raw)
    assert [(each.id, each.event, each.data) for each in events] == [
        ("1", "message", "é\nb"),
        ("2", "x", "c"),
    ]


def test_an_event_has_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("orchx.client.server_sent_events.MAX_EVENT_CHARS", 100)
    parser = EventStreamParser()
    for _ in range(10):
        parser.feed(b"data: 0123456789\n")
    with pytest.raises(DriverError, match="over 100 characters"):
        parser.feed(b"data: 0123456789\n")
