"""Has partitions taken and given up, one thing at a time, and again until it is done.

Between a `Membership`, which says what is this engine's when it pleases, and the
`Supervision`, for which taking a partition is a recovery that may be long.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence
from typing import NoReturn, Protocol

import structlog

from orchx.errors import Bug, OrchxError
from orchx.ports.clock import Clock

logger = structlog.get_logger(__name__)

RETRY_PAUSE_S = 0.5


class PartitionServer(Protocol):
    """Serves partitions. It is called once at a time; a `take` may be cancelled."""

    async def take(self, partitions: Sequence[int]) -> None:
        """Serve these besides those that are served.

        Raises:
            OrchxError: it was not done, and is to be asked again.
        """
        ...

    async def give_up(self, partitions: Sequence[int]) -> None:
        """Serve these no more; what was begun for them is undone."""
        ...


class PartitionKeeper:
    """A `PartitionHolder` for a `PartitionServer`."""

    def __init__(self, server: PartitionServer, clock: Clock) -> None:
        self._server = server
        self._clock = clock
        self._wanted: set[int] = set()
        self._served: set[int] = set()
        self._taking: asyncio.Task[None] | None = None
        self._giving_up = asyncio.Lock()
        self._changed = asyncio.Event()
        self._failure: asyncio.Future[NoReturn] | None = None

    def given(self, partitions: Collection[int]) -> None:
        """Have these taken, unless they are."""
        self._wanted.update(partitions)
        self._begin()

    async def give_up(self, partitions: Collection[int]) -> None:
        """Have these given up; a recovery that is under way begins again without them."""
        self._wanted.difference_update(partitions)
        async with self._giving_up:
            taking, self._taking = self._taking, None
            if taking is not None:
                taking.cancel()
                await asyncio.wait((taking,))  # it may get done all the same
            leaving = [number for number in sorted(partitions) if number not in self._wanted]
            self._served.difference_update(leaving)
            await self._server.give_up(leaving)
        self._changed.set()
        self._begin()

    async def settled(self) -> None:
        """Return once all that is this engine's is served.

        Raises:
            Bug: serving has failed for good.
        """
        while self._wanted - self._served:
            self._changed.clear()
            failed = self._failed()
            changed = asyncio.ensure_future(self._changed.wait())
            await asyncio.wait((failed, changed), return_when=asyncio.FIRST_COMPLETED)
            changed.cancel()
            if failed.done():
                failed.result()

    async def run(self) -> NoReturn:
        """Return never.

        Raises:
            Bug: serving has failed for good.
        """
        await asyncio.shield(self._failed())
        raise Bug("a failure came to nothing")

    def close(self) -> None:
        """Take nothing more."""
        self._wanted.clear()
        if self._taking is not None:
            self._taking.cancel()

    def _failed(self) -> asyncio.Future[NoReturn]:
        if self._failure is None:
            self._failure = asyncio.get_running_loop().create_future()
        return self._failure

    def _begin(self) -> None:
        if self._taking is None and not self._giving_up.locked() and self._wanted - self._served:
            self._taking = asyncio.get_running_loop().create_task(self._take())
            self._taking.add_done_callback(self._taken)

    async def _take(self) -> None:
        while missing := sorted(self._wanted - self._served):
            try:
                await self._server.take(missing)
            except Bug:
                raise
            except OrchxError as error:
                logger.error("partitions not taken", partitions=missing, error=str(error))
                await self._clock.sleep(RETRY_PAUSE_S)
            else:
                self._served.update(missing)
                self._changed.set()

    def _taken(self, task: asyncio.Task[None]) -> None:
        if self._taking is task:
            self._taking = None
        if task.cancelled():
            return
        error = task.exception()
        if error is not None:
            logger.error("serving partitions failed", exc_info=error)
            if not self._failed().done():
                self._failed().set_exception(error)
        else:
            self._begin()  # what was given as it ended
