"""Direct channels between processes of one machine: frames over Unix sockets (ADR 0011).

A Ray call crosses eight threads whatever it carries. Between processes of the same
machine the same bytes go through a socket in a folder that only this user may enter; to
anyone further away, and whenever a channel is down, they go by Ray. Both ways mean the
same: a push may be lost, a question has a time limit.
"""

from __future__ import annotations

import asyncio
import os
import weakref
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final, TypeAlias, cast

import msgspec
import structlog

from orchx import errors
from orchx.actors.socket_folders import forget_dead_nodes
from orchx.errors import DriverError, NoAnswer, OrchxError, Unavailable

logger = structlog.get_logger(__name__)

HEADER_BYTES: Final = 4
MAX_FRAME_BYTES: Final = 256 * 1024 * 1024
MAX_UNSENT_BYTES: Final = 64 * 1024 * 1024
RECONNECT_PAUSE_S: Final = 0.2
PUSH: Final = 0  # the number of a frame that wants no answer

Argument: TypeAlias = bytes | str | float
Serve: TypeAlias = Callable[[str, list[Any]], Awaitable[Any]]

_encode = msgspec.msgpack.Encoder().encode


class _Call(msgspec.Struct, array_like=True):
    number: int
    method: str
    arguments: list[Any]


class _Answer(msgspec.Struct, array_like=True):
    number: int
    value: Any = None
    error: str | None = None  # the class in orchx.errors
    detail: str = ""


_decode_call = msgspec.msgpack.Decoder(_Call).decode
_decode_answer = msgspec.msgpack.Decoder(_Answer).decode


class _Frames(asyncio.Protocol):
    """Cuts what arrives into frames."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self._buffer = bytearray()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's is no subclass

    def data_received(self, data: bytes) -> None:
        buffer = self._buffer
        buffer += data
        start = 0
        while len(buffer) - start >= HEADER_BYTES:
            end = start + HEADER_BYTES
            length = int.from_bytes(buffer[start:end], "big")
            if length > MAX_FRAME_BYTES:
                self.close()
                return
            if len(buffer) - end < length:
                break
            self.frame(bytes(buffer[end : end + length]))
            start = end + length
        del buffer[:start]

    def frame(self, payload: bytes) -> None:
        """Take one frame."""
        raise NotImplementedError

    def send(self, payload: bytes) -> bool:
        """Send one frame; False if there is no connection.

        Raises:
            NoAnswer: there is one, and the other side does not keep up.
            Unavailable: the frame is one that it would not take.
                Neither must go another way, where nothing bounds it.
        """
        transport = self.transport
        if transport is None or transport.is_closing():
            return False
        if len(payload) > MAX_FRAME_BYTES:
            raise Unavailable(f"a message of {len(payload)} bytes is over {MAX_FRAME_BYTES}")
        if transport.get_write_buffer_size() > MAX_UNSENT_BYTES:
            raise NoAnswer(f"more than {MAX_UNSENT_BYTES} bytes wait for the other side")
        transport.write(len(payload).to_bytes(HEADER_BYTES, "big") + payload)
        return True

    def close(self) -> None:
        """End the connection."""
        if self.transport is not None:
            self.transport.close()


class _ServerEnd(_Frames):
    def __init__(self, serve: Serve) -> None:
        super().__init__()
        self._serve = serve
        self._tasks: set[asyncio.Task[None]] = set()

    def frame(self, payload: bytes) -> None:
        task = asyncio.get_running_loop().create_task(self._answer(_decode_call(payload)))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _answer(self, call: _Call) -> None:
        answer = _Answer(call.number)
        try:
            answer.value = await self._serve(call.method, call.arguments)
        except OrchxError as error:
            answer.error, answer.detail = type(error).__name__, str(error)
        except Exception as error:  # this actor's edge: the asker hears of it, the log too
            logger.exception("call failed", method=call.method)
            answer.error, answer.detail = "Unavailable", repr(error)
        if call.number != PUSH:
            try:
                self.send(_encode(answer))
            except Unavailable as error:  # the asker has a time limit
                logger.warning("answer dropped", method=call.method, error=str(error))


class ChannelServer:
    """Listens for one actor."""

    def __init__(self, path: Path, serve: Serve) -> None:
        self._path = path
        self._serve = serve
        self._server: asyncio.Server | None = None
        self._ends: weakref.WeakSet[_ServerEnd] = weakref.WeakSet()

    async def start(self) -> None:
        """Listen; a socket that an earlier life of this actor left is replaced."""
        draft = self._path.with_name(f"{self._path.name}.{os.getpid()}")
        draft.unlink(missing_ok=True)
        loop = asyncio.get_running_loop()
        self._server = await loop.create_unix_server(self._connected, str(draft))
        draft.replace(self._path)  # whoever connects meets the old one or this, never none

    def _connected(self) -> _ServerEnd:
        end = _ServerEnd(self._serve)
        self._ends.add(end)
        return end

    def close(self) -> None:
        """Listen no more, and end what is connected."""
        if self._server is not None:
            self._server.close()
        for end in list(self._ends):
            end.close()


async def open_server(path: Callable[[], Path], serve: Serve) -> ChannelServer | None:
    """Listen for an actor; None where no socket can be made: Ray carries its calls."""
    try:
        place = path()
        server = ChannelServer(place, serve)
        await server.start()
        forget_dead_nodes(place.parent)
    except (OSError, DriverError) as error:
        logger.warning("no direct channel", error=str(error))
        return None
    return server


class _ClientEnd(_Frames):
    def __init__(self) -> None:
        super().__init__()
        self.waiting: dict[int, asyncio.Future[Any]] = {}
        self.alive = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.alive = True

    def connection_lost(self, exc: Exception | None) -> None:
        self.alive = False
        for future in self.waiting.values():
            if not future.done():
                future.set_exception(Unavailable("the connection was lost"))
        self.waiting.clear()

    def frame(self, payload: bytes) -> None:
        answer = _decode_answer(payload)
        future = self.waiting.pop(answer.number, None)
        if future is None or future.done():
            return
        if answer.error is None:
            future.set_result(answer.value)
        else:
            future.set_exception(_error_named(answer.error, answer.detail))


def _error_named(name: str, detail: str) -> OrchxError:
    kind = getattr(errors, name, Unavailable)
    return kind(detail) if issubclass(kind, OrchxError) else Unavailable(detail)


class Channel:
    """One process's connection to an actor: made when first wanted, and again when lost."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.end: _ClientEnd | None = None  # the connection, if there is one
        self._connecting: asyncio.Task[None] | None = None
        self._tried_s = float("-inf")
        self._number = PUSH

    def push(self, method: str, arguments: tuple[Argument, ...]) -> bool:
        """Send without an answer; False if there is no connection now.

        What a connection cannot take is dropped, as pushes may be.
        """
        end = self._open()
        if end is None:
            return False
        try:
            return end.send(_encode(_Call(PUSH, method, list(arguments))))
        except Unavailable as error:
            logger.warning("push dropped", method=method, to=self._path.name, error=str(error))
            return True

    def ask(self, method: str, arguments: tuple[Argument, ...]) -> asyncio.Future[Any] | None:
        """Send and return the answer to come; None if there is no connection now.

        Raises:
            Unavailable: the other side does not keep up.
        """
        end = self._open()
        if end is None:
            return None
        self._number += 1
        number = self._number
        if not end.send(_encode(_Call(number, method, list(arguments)))):
            return None
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        end.waiting[number] = future
        future.add_done_callback(lambda _: end.waiting.pop(number, None))
        return future

    def close(self) -> None:
        """End the connection; a later push would make it anew."""
        if self.end is not None:
            self.end.close()

    def _open(self) -> _ClientEnd | None:
        if self.end is not None and self.end.alive:
            return self.end
        loop = asyncio.get_running_loop()
        if self._connecting is None and loop.time() - self._tried_s >= RECONNECT_PAUSE_S:
            self._tried_s = loop.time()
            self._connecting = loop.create_task(self._connect())
        return None

    async def _connect(self) -> None:
        try:
            loop = asyncio.get_running_loop()
            _, self.end = await loop.create_unix_connection(_ClientEnd, str(self._path))
        except OSError:
            self.end = None  # it is not here, or not yet: Ray finds it
        finally:
            self._connecting = None
