"""What all actor shells share: logs, metrics, background work, waiting until ready."""

from __future__ import annotations

import asyncio
import gc
import inspect
import os
import sys
from collections.abc import Coroutine, Sequence
from functools import partial
from typing import Any

import structlog

from orchx.actors.channel import open_server
from orchx.actors.handles import Handles
from orchx.actors.links import RayMetricsLink, RayProcessLink
from orchx.actors.logs import configure_logs
from orchx.actors.ray_session import node_id
from orchx.actors.socket_folders import socket_path
from orchx.adapters.system_clock import SystemClock
from orchx.engine.metrics import ProcessMetrics
from orchx.engine.watchdog import Watchdog
from orchx.errors import Bug, OrchxError
from orchx.settings import Settings

logger = structlog.get_logger(__name__)

RESTART_PAUSE_S = 0.5
# A commit thread must not wait 5 ms for the interpreter each time (ADR 0004).
SWITCH_INTERVAL_S = 0.0005
# Fewer, larger collections: a loop that makes many small objects is slowed by the default.
GC_THRESHOLD = 20_000
# On a machine that is full, taking requests goes before carrying them out: what was taken is
# durable and waits for little, what is turned away comes back and costs as much again.
WORK_NICENESS = 5


class Shell:
    """The base of the actor shells. Ray runs the constructor inside the actor's event loop.

    Args:
        name: of the actor.
        settings: all of them.
        niceness: of the event loop and of all threads that it starts, beyond what Ray gives its
            workers; up to 19 in all.
    """

    def __init__(self, name: str, settings: Settings, *, niceness: int = 0) -> None:
        os.nice(niceness)
        configure_logs(settings.log_level, name)
        sys.setswitchinterval(SWITCH_INTERVAL_S)
        gc.set_threshold(GC_THRESHOLD, 20, 50)
        self.name = name
        self.settings = settings
        self.handles = Handles(settings)
        self.metrics = ProcessMetrics(f"{name}-{os.getpid()}")
        self._tasks: set[asyncio.Task[None]] = set()
        self._ready = asyncio.Event()
        self.keep(self._listen())

    async def _listen(self) -> None:
        settings = self.settings
        path = partial(socket_path, settings.data_dir, settings.namespace, self.name, node_id())
        self._channel = await open_server(path, self._serve)

    async def _serve(self, method: str, arguments: list[Any]) -> Any:
        """Call one of the actor's methods, as Ray would."""
        found = getattr(self, method, None)
        if method.startswith("_") or not inspect.iscoroutinefunction(found):
            raise Bug(f"{self.name} has no method {method}")
        return await found(*arguments)

    def keep(self, work: Coroutine[Any, Any, None]) -> None:
        """Run something in the background; if it fails, the process ends and Ray restarts it."""
        task = asyncio.get_running_loop().create_task(self._kept(work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _kept(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except asyncio.CancelledError:
            raise
        except BaseException:  # this actor's edge: half of it must not live on
            logger.exception("background work failed; the process restarts")
            await asyncio.sleep(RESTART_PAUSE_S)
            os._exit(1)

    def push_metrics(self) -> None:
        """Send this process's metrics to the hub from now on."""
        self.keep(self.metrics.push_for_ever(RayMetricsLink(self.handles)))

    async def every(self, interval_s: float, step: Any) -> None:
        """Call an async function every interval; what it cannot do now, it does next time."""
        while True:
            await asyncio.sleep(interval_s)
            try:
                await step()
            except OrchxError as error:
                logger.warning("background step failed", error=str(error))

    def watch_over(self, actors: Sequence[str]) -> None:
        """Restart those actors that hang, from now on."""
        sweep = self.settings.sweep
        watchdog = Watchdog(
            [RayProcessLink(self.handles, a, sweep.health_timeout_ms / 1000) for a in actors],
            SystemClock(),
            interval_s=sweep.interval_ms / 1000,
            patience_s=sweep.patience_ms / 1000,
            start_s=sweep.start_patience_ms / 1000,
        )
        self.keep(watchdog.run())

    async def alive(self) -> None:
        """Answer, ready or not: whoever does not is frozen."""

    async def node(self) -> str:
        """Return the id of the node that the actor is on."""
        return node_id()

    async def ping(self) -> str:
        """Return the process id, once the actor is ready."""
        await self._ready.wait()
        return str(os.getpid())
