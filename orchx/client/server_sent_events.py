"""Server-sent events from bytes, as they come. Source: WHATWG HTML, "Server-sent events"."""

from __future__ import annotations

import codecs
from dataclasses import dataclass
from typing import Final

from orchx.errors import DriverError

MAX_EVENT_CHARS: Final = 16 * 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerSentEvent:
    """One event of a stream."""

    id: str
    event: str
    data: str


class EventStreamParser:
    """Takes a stream in pieces of any size and returns the events that are complete.

    What is incomplete when the stream ends is dropped, as the standard says: it will come
    again after a reconnection.
    """

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._rest = ""
        self._id = ""
        self._event = ""
        self._data: list[str] = []
        self._size = 0

    def feed(self, piece: bytes) -> list[ServerSentEvent]:
        """Return the events that this piece completes.

        Raises:
            DriverError: an event is over `MAX_EVENT_CHARS`.
        """
        text = self._rest + self._decoder.decode(piece)
        # A carriage return may be half of a line end whose other half is still to come.
        held = "\r" if text.endswith("\r") else ""
        text = text.removesuffix("\r").replace("\r\n", "\n").replace("\r", "\n")
        *lines, rest = text.split("\n")
        self._rest = rest + held
        events = [event for line in lines if (event := self._take(line)) is not None]
        if len(self._rest) + self._size > MAX_EVENT_CHARS:
            raise DriverError(f"the server sent an event of over {MAX_EVENT_CHARS} characters")
        return events

    def _take(self, line: str) -> ServerSentEvent | None:
        if not line:
            return self._dispatch()
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "data":
            self._data.append(value)
            self._size += len(value)
        elif name == "event":
            self._event = value
        elif name == "id" and "\0" not in value:
            self._id = value
        return None

    def _dispatch(self) -> ServerSentEvent | None:
        data, event = self._data, self._event or "message"
        self._data, self._event, self._size = [], "", 0
        if not data:
            return None
        return ServerSentEvent(id=self._id, event=event, data="\n".join(data))
