"""Direct channels, over real sockets and without Ray."""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import structlog

from orchx.actors import channel, socket_folders
from orchx.actors.channel import Channel, ChannelServer, open_server
from orchx.actors.handles import Handles
from orchx.actors.socket_folders import forget_dead_nodes, socket_path
from orchx.errors import DriverError, Fenced, NoAnswer, Unavailable
from orchx.settings import Settings

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
    with pytest.raises(NoAnswer, match="wait for the other side"):
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


# -- where there can be no socket ----------------------------------------------------------


@pytest.fixture
def long_tmpdir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / ("x" * 100)
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


async def test_a_long_temporary_folder_is_passed_over(
    long_tmpdir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    short = tmp_path / "s"
    short.mkdir()
    monkeypatch.setattr(socket_folders, "SHORT_FOLDER", short)
    path = socket_path(tmp_path, "test", "owner-dedicated-999")
    assert path.parent.parent == short
    assert path.parent.stat().st_mode & 0o077 == 0
    assert path.parent == socket_path(tmp_path, "test", "any").parent  # whatever the name


def test_a_folder_that_is_just_short_enough_leaves_room_for_a_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(socket_folders, "SHORT_FOLDER", tmp_path / "short")
    (tmp_path / "short").mkdir()
    monkeypatch.setattr(socket_folders, "MAX_FOLDER_BYTES", 1_000)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    folder = socket_path(tmp_path, "test", "any").parent
    monkeypatch.setattr(socket_folders, "MAX_FOLDER_BYTES", len(os.fsencode(folder)))
    assert socket_path(tmp_path, "test", "any").parent == folder
    monkeypatch.setattr(socket_folders, "MAX_FOLDER_BYTES", len(os.fsencode(folder)) - 1)
    assert socket_path(tmp_path, "test", "any").parent == tmp_path / "short" / folder.name


def test_the_longest_path_is_one_that_a_socket_takes() -> None:
    longest_name, draft = 32, len(".4194304")
    assert socket_folders.MAX_FOLDER_BYTES + 1 + longest_name + draft <= 107


async def test_an_actor_whose_socket_cannot_be_made_goes_on_without(
    tmp_path: Path, path: Path
) -> None:
    listener = Listener()
    too_long = path.parent / ("x" * 120)
    assert await open_server(lambda: too_long, listener.serve) is None
    path.parent.chmod(0o755)
    try:
        assert await open_server(lambda: socket_path(tmp_path, "test", "a"), listener.serve) is None
    finally:
        path.parent.chmod(0o700)


async def test_an_actor_whose_socket_can_be_made_is_reached(path: Path) -> None:
    listener = Listener()
    server = await open_server(lambda: path, listener.serve)
    assert server is not None
    made = Channel(path)
    made.push("hello", ())
    await until(lambda: made.end is not None)
    assert made.push("hello", ())
    await until(lambda: listener.pushed)
    made.close()
    await until(lambda: made.end is not None and not made.end.alive)
    server.close()


async def test_whoever_calls_where_there_can_be_no_socket_calls_by_ray(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Settings(data_dir=tmp_path, namespace="test")
    folder = socket_path(settings.data_dir, settings.namespace, "any").parent
    folder.chmod(0o755)  # as if it were somebody else's
    handles = Handles(settings)
    by_ray: list[str] = []

    def no_actor(name: str) -> Any:
        by_ray.append(name)
        raise Unavailable("there is no Ray here")

    monkeypatch.setattr(handles, "_handle", no_actor)
    try:
        handles.push("owner-1", "deliver", b"")
        with pytest.raises(Unavailable, match="no Ray here"):
            await handles.ask("owner-1", "alive", timeout_s=1.0)
        assert by_ray == ["owner-1"] * 2
        handles.close()
    finally:
        folder.chmod(0o700)


# -- several nodes -------------------------------------------------------------------------

HERE, THERE, GONE = "a" * 56, "b" * 56, "c" * 56


async def test_an_actor_of_another_node_is_not_heard_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its socket may be on this machine, if the node is, or was."""
    monkeypatch.setattr(channel, "RECONNECT_PAUSE_S", 0.0)
    listener = Listener()
    server = ChannelServer(socket_path(tmp_path, "test", "actor", THERE), listener.serve)
    await server.start()
    near = Channel(socket_path(tmp_path, "test", "actor", THERE))
    far = Channel(socket_path(tmp_path, "test", "actor", HERE))

    def nobody_here() -> bool:
        assert not far.push("hello", ())
        return near.push("hello", ())

    await until(nobody_here)
    near.close()
    server.close()


async def test_what_dead_nodes_left_is_deleted(tmp_path: Path) -> None:
    listener = Listener()
    living = ChannelServer(socket_path(tmp_path, "test", "actor", THERE), listener.serve)
    await living.start()
    dead = ChannelServer(socket_path(tmp_path, "test", "actor", GONE), listener.serve)
    await dead.start()
    left = dead._path.with_name("left")
    dead._path.rename(left)  # asyncio would delete it, which a killed process does not
    dead.close()
    starting = socket_path(tmp_path, "test", "actor", "d" * 56).parent
    here = await open_server(lambda: socket_path(tmp_path, "test", "actor", HERE), listener.serve)
    assert here is not None
    there = [folder for folder in (living._path, left, starting) if folder.exists()]
    assert there == [living._path, starting]
    for server in (here, living):
        server.close()
    forget_dead_nodes(socket_path(tmp_path, "test", "actor").parent)  # of no node: nothing to do
    assert starting.exists()


async def test_a_call_to_another_node_goes_by_ray_at_once_and_in_silence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A thousand calls: not one waits for a connection, or writes a line."""
    handles = Handles(Settings(data_dir=tmp_path, namespace="test"))
    by_ray: list[str] = []

    class Method:
        def options(self, **_: Any) -> Method:
            return self

        def remote(self, *arguments: Any) -> None:
            by_ray.append("push")

    class Actor:
        deliver = Method()

    monkeypatch.setattr(handles, "_handle", lambda _: Actor())
    with structlog.testing.capture_logs() as lines:
        for _ in range(1_000):
            handles.push("owner-1", "deliver", b"")
            assert len(by_ray) == _ + 1
        connecting = handles._channels["owner-1"]
        assert connecting is not None
        await until(lambda: connecting._connecting is None)
    assert lines == []
