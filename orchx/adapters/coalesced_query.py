"""One query, or one piece of work, for all who ask at the same time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Final, Generic, TypeVar

SHARED_MAX: Final = 500
"""Of what a piece of work is made of: who has more, as after an outage, has it done alone."""

Item = TypeVar("Item")
Result = TypeVar("Result")


class Coalesced(Generic[Item, Result]):
    """Works on behalf of everyone who comes while the last piece of work is done.

    Nobody gets the result of work that began before the call: what was there by then is
    in it. `work` gets the items of all callers, and each caller the result for all of them. Where
    it fails for several with one of the errors `apart`, each has it done for its own items alone.
    """

    def __init__(
        self,
        work: Callable[[Sequence[Item]], Awaitable[Result]],
        *,
        apart: tuple[type[Exception], ...] = (),
    ) -> None:
        self._work = work
        self._apart = apart
        self._running: asyncio.Task[Result] | None = None
        self._next: asyncio.Task[Result] | None = None
        self._callers: list[Sequence[Item]] = []

    async def join(self, items: Iterable[Item] = (), *, alone: bool = False) -> Result:
        """Return the result of work that began after this call; raises what it raises.

        `alone`: with nobody else's items; it ends with its caller.
        """
        own = tuple(items)
        if alone:
            return await self._work(own)
        self._callers.append(own)
        callers = self._callers
        if self._next is None:
            self._next = asyncio.create_task(self._work_after(self._running))
            self._next.add_done_callback(self._forget)
        try:
            # One caller's leaving must not end the work of the others.
            return await asyncio.shield(self._next)
        except self._apart:
            if len(callers) == 1:
                raise
            return await self._work(own)

    async def _work_after(self, before: asyncio.Task[Result] | None) -> Result:
        if before is not None and not before.done():
            await asyncio.wait((before,))
        self._running, self._next = self._next, None
        callers, self._callers = self._callers, []
        return await self._work([item for items in callers for item in items])

    async def close(self) -> None:
        """Wait until nothing is done any more, but for what callers have done alone."""
        while (task := self._next or self._running) is not None and not task.done():
            await asyncio.wait((task,))

    def _forget(self, task: asyncio.Task[Result]) -> None:
        if self._running is task:
            self._running = None  # an error would keep alive all that was at hand
        if not task.cancelled():
            task.exception()  # heard, though all callers may have left


class CoalescedQuery(Coalesced[str, Result]):
    """Asks once for the keys of everyone who comes while the last query runs."""

    def __init__(self, ask: Callable[[frozenset[str]], Awaitable[Result]]) -> None:
        super().__init__(lambda keys: ask(frozenset(keys)))

    async def get(self, keys: Iterable[str] = ()) -> Result:
        """Return the result of a query that began after this call; raises what it raises."""
        return await self.join(keys)
