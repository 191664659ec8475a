"""Ending processes that live and do nothing, so that others can be started in their place.

A process that died is seen by Ray at once. One that hangs (stopped, or stuck in a call that
never returns) is not: it keeps its memory, and on the embedded profile perhaps the write
lock of a database, on which everybody else then waits. Fencing makes what such a process
does harmless (DESIGN 5); the watchdog makes what it holds free.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import structlog

from orchx.errors import NoAnswer, Unavailable
from orchx.ports.clock import Clock
from orchx.ports.supervision import ProcessLink

logger = structlog.get_logger(__name__)


class Watchdog:
    """Asks each process, again and again, whether it is alive.

    Only a process that has answered before can be found frozen: one that starts, or is
    known to be dead, is left to whoever starts it.

    Args:
        processes: to watch.
        clock: time.
        interval_s: the pause between two questions to the same process.
        patience: how many questions in a row it may leave unanswered.
    """

    def __init__(
        self, processes: Sequence[ProcessLink], clock: Clock, *, interval_s: float, patience: int
    ) -> None:
        self._processes = processes
        self._clock = clock
        self._interval_s = interval_s
        self._patience = patience

    async def run(self) -> None:
        """Watch all of them for ever, each at its own pace."""
        await asyncio.gather(*(self._watch(process) for process in self._processes))

    async def _watch(self, process: ProcessLink) -> None:
        silent: int | None = None  # None: it has not answered since it was started
        while True:
            await self._clock.sleep(self._interval_s)
            try:
                await process.alive()
                silent = 0
            except NoAnswer:
                silent = None if silent is None else silent + 1
            except Unavailable:
                silent = None
            if silent is not None and silent >= self._patience:
                await self._restart(process)
                silent = None

    async def _restart(self, process: ProcessLink) -> None:
        logger.error("process frozen, restarting it", process=process.name)
        try:
            await process.restart()
        except Unavailable as error:  # it has gone by itself
            logger.warning("nothing to restart", process=process.name, error=str(error))
