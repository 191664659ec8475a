"""A task pool as an actor."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import msgspec

from orchx import bootstrap
from orchx.actors.cpu_tasks import RayCpuExecutor
from orchx.actors.links import RayOutcomeSink
from orchx.actors.shell import WORK_NICENESS, Shell
from orchx.domain.messages import TaskRequest
from orchx.settings import Settings

REFRESH_S = 0.5

_decode_requests = msgspec.msgpack.Decoder(list[TaskRequest]).decode
_decode_ids = msgspec.msgpack.Decoder(list[str]).decode


class PoolActor(Shell):
    """Wraps `TaskPool`."""

    def __init__(self, name: str, settings: Settings) -> None:
        super().__init__(name, settings, niceness=WORK_NICENESS)
        sink = RayOutcomeSink(self.handles)
        self._parts = bootstrap.build_pool(settings, sink, RayCpuExecutor(settings))
        self._pool = self._parts.pool
        stats = self._pool.stats
        for field in ("submitted", "completed", "faulted", "timed_out", "joined", "refused"):
            self.metrics.gauge(f"pool_{field}", f"Calls {field}", partial(getattr, stats, field))
        self.keep(self._run())

    async def _run(self) -> None:
        await self._parts.refresh()
        self._ready.set()
        self.push_metrics()
        await self.every(REFRESH_S, self._parts.refresh)

    async def submit(self, requests: bytes) -> None:
        """Take a batch of calls."""
        if not self._ready.is_set():
            await self._ready.wait()
        self._pool.submit(_decode_requests(requests))

    async def abandon(self, executions: bytes) -> None:
        """Stop what nobody waits for."""
        self._pool.abandon(_decode_ids(executions))

    async def unknown(self, executions: bytes) -> Sequence[str]:
        """Return what this pool does not have."""
        await self._ready.wait()
        return self._pool.unknown(_decode_ids(executions))

    async def pause(self, service: str) -> bool:
        """Let no further call of a service begin."""
        return self._pool.pause(service)

    async def resume(self, service: str) -> bool:
        """Let calls of a paused service begin again."""
        return self._pool.resume(service)

    async def queues(self) -> bytes:
        """Return every service's queue, as JSON."""
        return msgspec.json.encode(self._pool.queues())
