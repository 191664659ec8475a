"""One query for all who ask at the same time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import Generic, TypeVar

Result = TypeVar("Result")


class CoalescedQuery(Generic[Result]):
    """Asks on behalf of everyone who comes while the last query runs.

    Nobody gets the result of a query that began before the call: what was there by then is
    in it. `ask` gets the keys of all callers, and each caller the result for all of them.
    """

    def __init__(self, ask: Callable[[frozenset[str]], Awaitable[Result]]) -> None:
        self._ask = ask
        self._running: asyncio.Task[Result] | None = None
        self._next: asyncio.Task[Result] | None = None
        self._keys: set[str] = set()

    async def get(self, keys: Iterable[str] = ()) -> Result:
        """Return the result of a query that began after this call; raises what it raises."""
        self._keys.update(keys)
        if self._next is None:
            self._next = asyncio.create_task(self._query_after(self._running))
            self._next.add_done_callback(self._forget)
        # One caller's leaving must not end the query of the others.
        return await asyncio.shield(self._next)

    async def _query_after(self, before: asyncio.Task[Result] | None) -> Result:
        if before is not None and not before.done():
            await asyncio.wait((before,))
        self._running, self._next = self._next, None
        keys, self._keys = frozenset(self._keys), set()
        return await self._ask(keys)

    async def close(self) -> None:
        """Wait until nothing is asked any more."""
        while (task := self._next or self._running) is not None and not task.done():
            await asyncio.wait((task,))

    def _forget(self, task: asyncio.Task[Result]) -> None:
        if self._running is task:
            self._running = None  # an error would keep alive all that was at hand
        if not task.cancelled():
            task.exception()  # heard, though all callers may have left
