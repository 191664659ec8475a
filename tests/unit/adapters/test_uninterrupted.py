from __future__ import annotations

import asyncio
import gc
import importlib
import inspect
import pkgutil
from typing import Any

import pytest

from orchx import adapters
from orchx.adapters.mongo_connection import MongoConnection
from orchx.adapters.uninterrupted import uninterrupted
from orchx.errors import DriverError

TIMEOUT_S = 10.0


@uninterrupted
class Calls:
    def __init__(self) -> None:
        self.begun, self.may_end, self.ended = (asyncio.Event() for _ in range(3))

    async def wait(self, answer: str, *, fails: bool = False) -> str:
        """Say so in the end."""
        self.begun.set()
        try:
            await self.may_end.wait()
        finally:
            self.ended.set()
        if fails:
            raise DriverError(answer)
        return answer

    def at_once(self) -> str:
        return "now"


async def test_who_stays_hears_what_became_of_a_call() -> None:
    calls = Calls()
    calls.may_end.set()
    assert await calls.wait("done") == "done"
    assert calls.at_once() == "now"
    assert calls.wait.__doc__ == "Say so in the end."
    with pytest.raises(DriverError, match="broken"):
        await calls.wait("broken", fails=True)


@pytest.mark.parametrize("fails", [False, True])
async def test_who_is_cancelled_leaves_at_once_and_the_call_goes_on(*, fails: bool) -> None:
    calls = Calls()
    told: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context))
    caller = asyncio.create_task(calls.wait("unheard", fails=fails))
    await asyncio.wait_for(calls.begun.wait(), TIMEOUT_S)
    caller.cancel()
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    gc.collect()
    assert not calls.ended.is_set()
    calls.may_end.set()
    await asyncio.wait_for(calls.ended.wait(), TIMEOUT_S)
    await asyncio.sleep(0)
    gc.collect()
    await asyncio.sleep(0)
    assert told == []


def _calls_of(kind: type) -> dict[str, object]:
    public = {name: value for name, value in vars(kind).items() if not name.startswith("_")}
    return {name: value for name, value in public.items() if inspect.iscoroutinefunction(value)}


def test_no_call_of_a_mongodb_adapter_can_be_interrupted() -> None:
    """All but those of the connection, which are made inside of the adapters' own."""
    names = [found.name for found in pkgutil.iter_modules(adapters.__path__)]
    modules = [
        importlib.import_module(f"{adapters.__name__}.{name}")
        for name in names
        if name.startswith("mongo_")
    ]
    kinds = [
        kind
        for module in modules
        for kind in vars(module).values()
        if inspect.isclass(kind) and kind.__module__ == module.__name__
        if kind is not MongoConnection
    ]
    calls = {(kind, name): call for kind in kinds for name, call in _calls_of(kind).items()}
    assert len(calls) > 50
    assert [place for place, call in calls.items() if not hasattr(call, "__wrapped__")] == []
