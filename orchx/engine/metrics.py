"""Metrics that are right with many processes (ADR 0006).

Each process keeps a registry of its own and pushes its exposition to one hub, every
`PUSH_INTERVAL_S`. The hub adds a `process` label and drops what has been silent for long,
so that any replica that is scraped answers for all of them.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from typing import Protocol

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

PUSH_INTERVAL_S = 2.0
SILENT_AFTER_S = 60.0
MAX_PROCESSES = 10_000
LATENCY_BUCKETS_S = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)


class MetricsLink(Protocol):
    """The way from a process to the hub."""

    def push(self, process: str, exposition: bytes) -> None:
        """Send a snapshot; may be lost."""
        ...


class ProcessMetrics:
    """The metrics of one process."""

    def __init__(self, process: str) -> None:
        self.process = process
        self.registry = CollectorRegistry()

    def counter(self, name: str, text: str, labels: Iterable[str] = ()) -> Counter:
        """Return a new counter `orchx_<name>_total`."""
        return Counter(f"orchx_{name}", text, tuple(labels), registry=self.registry)

    def gauge(self, name: str, text: str, read: Callable[[], float]) -> None:
        """Add a gauge `orchx_<name>` that is read when a snapshot is made."""
        Gauge(f"orchx_{name}", text, registry=self.registry).set_function(read)

    def histogram(self, name: str, text: str, labels: Iterable[str] = ()) -> Histogram:
        """Return a new histogram `orchx_<name>` of seconds."""
        return Histogram(
            f"orchx_{name}",
            text,
            tuple(labels),
            registry=self.registry,
            buckets=LATENCY_BUCKETS_S,
        )

    def exposition(self) -> bytes:
        """Return a snapshot in the Prometheus text format."""
        return generate_latest(self.registry)

    async def push_for_ever(self, link: MetricsLink) -> None:
        """Push a snapshot every interval."""
        while True:
            link.push(self.process, self.exposition())
            await asyncio.sleep(PUSH_INTERVAL_S)


class MetricsHub:
    """Holds the last snapshot of every process."""

    def __init__(self, now_s: Callable[[], float] = time.monotonic) -> None:
        self._now_s = now_s
        self._snapshots: dict[str, tuple[float, bytes]] = {}

    def push(self, process: str, exposition: bytes) -> None:
        """Take a snapshot; the newest of a process counts."""
        if process in self._snapshots or len(self._snapshots) < MAX_PROCESSES:
            self._snapshots[process] = (self._now_s(), exposition)

    def exposition(self) -> bytes:
        """Return all snapshots as one exposition, each sample with its `process`."""
        oldest_s = self._now_s() - SILENT_AFTER_S
        self._snapshots = {k: v for k, v in self._snapshots.items() if v[0] >= oldest_s}
        registry = CollectorRegistry()
        registry.register(_Merged({k: v[1] for k, v in self._snapshots.items()}))
        return generate_latest(registry)


class _Merged(Collector):
    def __init__(self, snapshots: dict[str, bytes]) -> None:
        self._snapshots = snapshots

    def collect(self) -> Iterable[Metric]:
        merged: dict[str, Metric] = {}
        for process, exposition in sorted(self._snapshots.items()):
            for family in text_string_to_metric_families(exposition.decode()):
                known = merged.get(family.name)
                if known is None:
                    known = merged[family.name] = Metric(
                        family.name, family.documentation, family.type
                    )
                for sample in family.samples:
                    known.add_sample(
                        sample.name, {**sample.labels, "process": process}, sample.value
                    )
        return merged.values()
