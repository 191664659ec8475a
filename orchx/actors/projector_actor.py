"""The projector as an actor, with the metrics hub beside it; and the reporter."""

from __future__ import annotations

from functools import partial

import msgspec

from orchx import bootstrap
from orchx.actors import names
from orchx.actors.links import RayCommandSink
from orchx.actors.shell import WORK_NICENESS, Shell
from orchx.adapters.mongo_presence import RENEWAL_S, SERVING_S
from orchx.adapters.system_clock import SystemClock
from orchx.engine.metrics import MetricsHub
from orchx.engine.retention import forget_for_ever
from orchx.settings import Settings

_encode = msgspec.msgpack.Encoder().encode
_decode_partitions = msgspec.msgpack.Decoder(list[int]).decode


class ProjectorActor(Shell):
    """Wraps `Projector` and `MetricsHub`."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(names.PROJECTOR, settings, niceness=WORK_NICENESS)
        parts = bootstrap.build_state_service(settings, RayCommandSink(self.handles))
        self._projection = parts.projection
        self._hub = MetricsHub()
        self._lag = 0
        self.metrics.gauge("projector_lag", "Records not projected yet", lambda: self._lag)
        self.metrics.gauge(
            "projector_gaps", "Records that could not be applied", lambda: self._projection.gaps
        )
        self.keep(self._projection.run())
        self._indexer = parts.indexer
        if parts.indexer is not None:
            self._index_lag = 0
            self.metrics.gauge(
                "command_index_lag", "Commands not in their index yet", lambda: self._index_lag
            )
            self.keep(parts.indexer.run())
            self.keep(self.every(1.0, self._measure_index))
        if parts.presence is not None:
            note = partial(parts.presence.note, "engine", for_s=SERVING_S)
            self.keep(self.every(RENEWAL_S, note))
        self.keep(self.every(1.0, self._measure))
        self.push_metrics()
        self.watch_over([names.DISPATCHER])  # which watches over all others
        self._ready.set()

    async def _measure(self) -> None:
        self._lag = await self._projection.lag()

    async def serve(self, partitions: bytes) -> None:
        """Project these partitions."""
        self._projection.serve(_decode_partitions(partitions))

    async def check(self) -> None:
        """See that projecting goes on."""
        self._projection.check()

    async def barrier(self, partitions: bytes) -> bytes:
        """Return when everything durable now of these partitions is projected: up to where."""
        return _encode(await self._projection.barrier(_decode_partitions(partitions)))

    async def _measure_index(self) -> None:
        if self._indexer is not None:
            self._index_lag = await self._indexer.lag()

    async def metrics_pushed(self, process: str, exposition: bytes) -> None:
        """Take a process's metrics."""
        self._hub.push(process, exposition)

    async def exposition(self) -> bytes:
        """Return the metrics of all processes."""
        self._hub.push(self.metrics.process, self.metrics.exposition())
        return self._hub.exposition()


class ReporterActor(Shell):
    """Wraps `Reporter` and the `DeliveryRetention` of its outbox."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(names.REPORTER, settings, niceness=WORK_NICENESS)
        parts = bootstrap.build_reporter(settings)
        self._reporter = parts.reporter
        self._lag = 0
        self.metrics.gauge("reporter_lag", "Records not reported on yet", lambda: self._lag)
        self.keep(self._reporter.run())
        self.keep(forget_for_ever(parts.retention, SystemClock()))
        self.keep(self.every(1.0, self._measure))
        self.push_metrics()
        self._ready.set()

    async def serve(self, partitions: bytes) -> None:
        """Report on everything, if this engine is the one that does."""
        self._reporter.serve(_decode_partitions(partitions))

    async def _measure(self) -> None:
        self._lag = await self._reporter.lag()
