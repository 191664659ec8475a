"""Calls that go on without their caller, for a driver that a cancellation can wedge.

PyMongo waits for its locks with `asyncio.wait_for` on a condition. On Python 3.11 a cancellation
that comes while such a wait ends, by its time limit or by an earlier cancellation, leaves the
lock with a task that nobody knows: from then on every call of the client waits for ever.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Coroutine
from functools import wraps
from typing import Any, ParamSpec, TypeVar

Kind = TypeVar("Kind", bound=type)
Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")

_going_on: set[asyncio.Task[Any]] = set()  # the event loop alone would not keep them


def uninterrupted(kind: Kind) -> Kind:
    """Have each call of a class's public coroutine methods run to its end, in a task of its own.

    A caller who is cancelled leaves at once. What it has begun goes on, as long as the driver's
    time limits let it, as it may on the server anyway; what becomes of it nobody hears.
    """
    for name, found in list(vars(kind).items()):
        if not name.startswith("_") and inspect.iscoroutinefunction(found):
            setattr(kind, name, _in_own_task(found))
    return kind


def _in_own_task(
    function: Callable[Parameters, Coroutine[Any, Any, Result]],
) -> Callable[Parameters, Coroutine[Any, Any, Result]]:
    @wraps(function)
    async def call(*args: Parameters.args, **kwargs: Parameters.kwargs) -> Result:
        task = asyncio.create_task(function(*args, **kwargs))
        _going_on.add(task)
        task.add_done_callback(_forget)
        return await asyncio.shield(task)

    return call


def _forget(task: asyncio.Task[Any]) -> None:
    _going_on.discard(task)
    if not task.cancelled():
        task.exception()  # heard, though its caller may have left
