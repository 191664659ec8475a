"""How one process reaches named actors: errors as they were meant, and nobody there."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import ray

from orchx.actors.handles import Handles
from orchx.errors import NotFound, Unavailable
from orchx.settings import Settings

pytestmark = pytest.mark.slow

NAME = "probe"


class Probe:
    """An actor that does what actors may do to their callers."""

    def __init__(self) -> None:
        self._heard: list[str] = []
        self._news = asyncio.Condition()

    async def pid(self) -> int:
        return os.getpid()

    async def refuse(self) -> None:
        raise NotFound("there is no such thing")

    async def stumble(self) -> None:
        raise ZeroDivisionError("a bug")

    async def hang(self) -> None:
        await asyncio.Event().wait()

    async def hear(self, text: str) -> None:
        async with self._news:
            self._heard.append(text)
            self._news.notify_all()

    async def wait_for(self, count: int) -> list[str]:
        async with self._news:
            await self._news.wait_for(lambda: len(self._heard) >= count)
        return self._heard


def _start(namespace: str) -> Any:
    remote: Any = ray.remote(Probe)
    return remote.options(
        name=NAME, namespace=namespace, lifetime="detached", num_cpus=0, max_concurrency=100
    ).remote()


async def _ask_until_it_fails(handles: Handles) -> None:
    async with asyncio.timeout(30):
        while True:
            await handles.ask(NAME, "pid", timeout_s=30)


@pytest.fixture
def probe(ray_namespace: str) -> Iterator[Any]:
    actor = _start(ray_namespace)
    ray.get(actor.pid.remote())
    yield actor
    ray.kill(actor)


@pytest.fixture
def handles(ray_namespace: str, tmp_path: Path) -> Handles:
    # nobody listens on a socket for this folder: the calls go by Ray
    return Handles(Settings(data_dir=tmp_path, namespace=ray_namespace))


async def test_an_actor_that_does_not_exist_is_unavailable(handles: Handles) -> None:
    with pytest.raises(Unavailable, match="no actor nobody"):
        await handles.ask("nobody", "pid", timeout_s=5)


async def test_what_is_pushed_to_nobody_is_dropped(handles: Handles) -> None:
    handles.push("nobody", "hear", "lost")


async def test_an_actor_answers(handles: Handles, probe: Any) -> None:
    assert await handles.ask(NAME, "pid", timeout_s=30) != os.getpid()


async def test_pushes_arrive_in_whatever_order(handles: Handles, probe: Any) -> None:
    words = {"one", "two", "three"}
    for word in words:
        handles.push(NAME, "hear", word)
    heard = await handles.ask(NAME, "wait_for", len(words), timeout_s=30)
    assert set(heard) == words


async def test_an_error_of_ours_arrives_as_it_was_raised(handles: Handles, probe: Any) -> None:
    with pytest.raises(NotFound, match="no such thing"):
        await handles.ask(NAME, "refuse", timeout_s=30)


async def test_any_other_error_is_unavailable_and_named(handles: Handles, probe: Any) -> None:
    with pytest.raises(Unavailable, match=r"probe\.stumble failed: ZeroDivisionError"):
        await handles.ask(NAME, "stumble", timeout_s=30)


async def test_no_answer_in_time_is_unavailable(handles: Handles, probe: Any) -> None:
    with pytest.raises(Unavailable, match=r"no answer within 0\.1 s"):
        await handles.ask(NAME, "hang", timeout_s=0.1)


async def test_a_dead_actor_is_unavailable_and_its_successor_is_found(
    handles: Handles, probe: Any, ray_namespace: str
) -> None:
    first = await handles.ask(NAME, "pid", timeout_s=30)
    ray.kill(probe)  # returns before the actor is dead: it may answer once more
    with pytest.raises(Unavailable, match="cannot be reached"):
        await _ask_until_it_fails(handles)
    successor = _start(ray_namespace)
    second = await handles.ask(NAME, "pid", timeout_s=30)
    ray.kill(successor)
    assert second != first
