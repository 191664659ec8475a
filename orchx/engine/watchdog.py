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

    One that starts, or is known to be dead, is left to whoever starts it; for as long as a
    start may take.

    Args:
        processes: to watch.
        clock: time.
        interval_s: the pause between two questions to the same process.
        patience_s: how long one that has answered may be silent.
        start_s: how long one may be silent that has not answered yet.
    """

    def __init__(
        self,
        processes: Sequence[ProcessLink],
        clock: Clock,
        *,
        interval_s: float,
        patience_s: float,
        start_s: float,
    ) -> None:
        self._processes = processes
        self._clock = clock
        self._interval_s = interval_s
        self._patience_ms = patience_s * 1000
        self._start_ms = max(start_s, patience_s) * 1000

    async def run(self) -> None:
        """Watch all of them for ever, each at its own pace."""
        await asyncio.gather(*(self._watch(process) for process in self._processes))

    async def _watch(self, process: ProcessLink) -> None:
        since_ms: float | None = None  # a pause before it was first asked in vain
        patience_ms = self._start_ms
        while True:
            await self._clock.sleep(self._interval_s)
            asked_ms = self._clock.ticks_ms()
            try:
                await process.alive()
                since_ms, patience_ms = None, self._patience_ms
            except NoAnswer:
                # The time when it was asked: what this process itself slept through since then
                # is not that one's silence.
                if since_ms is None:
                    since_ms = asked_ms - self._interval_s * 1000
                if asked_ms - since_ms >= patience_ms:
                    await self._restart(process)
                    since_ms, patience_ms = None, self._start_ms
            except Unavailable:
                since_ms, patience_ms = None, self._start_ms

    async def _restart(self, process: ProcessLink) -> None:
        logger.error("process frozen, restarting it", process=process.name)
        try:
            await process.restart()
        except Unavailable as error:  # it has gone by itself
            logger.warning("nothing to restart", process=process.name, error=str(error))
