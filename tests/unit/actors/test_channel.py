"""Direct channels, over real sockets and without Ray."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from orchx.actors import channel
from orchx.actors.channel import Channel, ChannelServer, socket_path
from orchx.errors import DriverError, Fenced, Unavailable

LIMIT_S = 5.0


class Listener:
    """An actor's side: remembers what it was told."""

    def __init__(self) -> None:
        self.pushed: list[tuple[str, list[Any]]] = []
        self.told = asyncio.Event()

    async def serve(self, method: str, arguments: list[Any]) -> Any:
        if method == "fenced":
            raise Fenced("someone else has it")
        if method == "broken":
            raise ZeroDivisionError
        if method == "never":
            await asyncio.Event().wait()
        self.pushed.append((method, arguments))
        self.told.set()
        return arguments


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return socket_path(tmp_path, "test", "actor")


@pytest.fixture
async def listener(path: Path) -> AsyncIterator[Listener]:
    found = Listener()
    server = ChannelServer(path, found.serve)
    await server.start()
    yield found
    server.close()


async def until(condition: Callable[[], object]) -> None:
    loop = asyncio.get_running_loop()
    done: asyncio.Future[None] = loop.create_future()

    def look() -> None:
        if condition():
            done.set_result(None)
        else:
            loop.call_later(0.001, look)

    look()
    await asyncio.wait_for(done, LIMIT_S)


@pytest.fixture
async def made(
    listener: Listener, path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Channel]:
    monkeypatch.setattr(channel, "RECONNECT_PAUSE_S", 0.0)
    connected = Channel(path)
    await until(lambda: connected.push("hello", ()))
    yield connected
    connected.close()
    await until(lambda: connected.end is None or not connected.end.alive)


async def test_a_push_arrives_with_its_arguments_in_order(
    listener: Listener, made: Channel
) -> None:
    for number in range(100):
        assert made.push("note", (bytes([number]), f"{number}", number / 2))
    await until(lambda: len(listener.pushed) == 101)
    assert listener.pushed[1:] == [("note", [bytes([n]), f"{n}", n / 2]) for n in range(100)]


async def test_a_large_frame_arrives_whole(listener: Listener, made: Channel) -> None:
    payload = os.urandom(5_000_000)
    answer = made.ask("note", (payload,))
    assert answer is not None
    assert await asyncio.wait_for(answer, LIMIT_S) == [payload]


async def test_answers_find_their_questions(listener: Listener, made: Channel) -> None:
    slow = made.ask("never", ())
    answers = [made.ask("note", (float(n),)) for n in range(20)]
    found = [await asyncio.wait_for(a, LIMIT_S) for a in answers if a is not None]
    assert found == [[float(n)] for n in range(20)]
    assert slow is not None
    assert not slow.done()


@pytest.mark.parametrize(("method", "kind"), [("fenced", Fenced), ("broken", Unavailable)])
async def test_what_a_method_raises_comes_back(
    method: str,
    kind: type[Exception],
    made: Channel,
) -> None:
    answer = made.ask(method, ())
    assert answer is not None
    with pytest.raises(kind):
        await asyncio.wait_for(answer, LIMIT_S)


async def test_a_lost_connection_fails_what_waits_and_is_made_again(
    listener: Listener, made: Channel
) -> None:
    waiting = made.ask("never", ())
    assert waiting is not None
    assert made.end is not None
    made.end.close()
    with pytest.raises(Unavailable):
        await asyncio.wait_for(waiting, LIMIT_S)
    await until(lambda: made.push("again", ()))
    await until(lambda: ("again", []) in listener.pushed)


async def test_what_the_other_side_does_not_read_is_dropped(
    listener: Listener, made: Channel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(channel, "MAX_UNSENT_BYTES", 1_000_000)
    large = bytes(3_000_000)  # more than a socket's own buffer
    assert made.push("first", (large,))
    assert made.push("dropped", ())
    with pytest.raises(Unavailable, match="wait for the other side"):
        made.ask("refused", ())
    await until(lambda: ("first", [large]) in listener.pushed)
    assert made.push("last", ())
    await until(lambda: ("last", []) in listener.pushed)
    assert [method for method, _ in listener.pushed] == ["hello", "first", "last"]


async def test_a_frame_that_nobody_takes_is_not_sent(
    listener: Listener, made: Channel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(channel, "MAX_FRAME_BYTES", 1_000)
    assert made.push("dropped", (bytes(1_000),))
    with pytest.raises(Unavailable, match="over 1000"):
        made.ask("refused", (bytes(1_000),))
    assert made.push("last", ())
    await until(lambda: ("last", []) in listener.pushed)


async def test_nothing_is_sent_where_nobody_listens(path: Path) -> None:
    made = Channel(path)
    assert not made.push("hello", ())
    assert made.ask("hello", ()) is None


def test_the_folder_must_be_ones_own(tmp_path: Path) -> None:
    folder = socket_path(tmp_path, "test", "actor").parent
    assert folder.stat().st_mode & 0o077 == 0
    folder.chmod(0o755)
    with pytest.raises(DriverError):
        socket_path(tmp_path, "test", "actor")
    folder.chmod(0o700)
