"""Many single reads of one store, made a group at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping
from itertools import islice
from typing import Final, Generic, TypeVar

Result = TypeVar("Result")

GROUP_MAX: Final = 50
AT_ONCE: Final = 2  # while one group's answer is worked on, the store works on another's


class GroupedReads(Generic[Result]):
    """Reads what is asked for by key: all that waits, up to `GROUP_MAX` keys, in one go.

    So a crowd waits here, and not for the store's connections, of which each waits its time
    out. What is read begins after the call. If a read fails, all who wait hear of it.
    """

    def __init__(
        self, read: Callable[[Collection[str]], Awaitable[Mapping[str, Result]]], missing: Result
    ) -> None:
        """Read with `read`; `missing` is the result of a key that it does not return."""
        self._read = read
        self._missing = missing
        self._waiting: dict[str, asyncio.Future[Result]] = {}
        self._readers: set[asyncio.Task[None]] = set()

    async def get(self, key: str) -> Result:
        """Return what is there under a key; raises what reading raises."""
        future = self._waiting.get(key)
        if future is None:
            future = self._waiting[key] = asyncio.get_running_loop().create_future()
            future.add_done_callback(_hear)
            if len(self._readers) < AT_ONCE:
                reader = asyncio.create_task(self._read_on())
                self._readers.add(reader)
                reader.add_done_callback(self._readers.discard)
        return await asyncio.shield(future)  # others may wait for it too

    async def _read_on(self) -> None:
        while self._waiting:
            keys = list(islice(self._waiting, GROUP_MAX))
            group = {key: self._waiting.pop(key) for key in keys}
            try:
                found = await self._read(keys)
            except Exception as error:  # the edge of a reader: who waits hears of it
                group |= self._waiting
                self._waiting.clear()
                for future in group.values():
                    future.set_exception(error)
                continue
            except BaseException:  # it was ended
                for future in group.values():
                    future.cancel()
                raise
            for key, future in group.items():
                future.set_result(found.get(key, self._missing))


def _hear(future: asyncio.Future[Result]) -> None:
    if not future.cancelled():
        future.exception()  # all who waited may have left
