"""Which machine uses how much of the cores: where the time goes when nothing is wrong."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

from benchmarks.machine import cpu_s_of
from tests.chaos.network import Machine, pids_on


class CpuUse:
    """Measures from its making until `cores`."""

    def __init__(self, machines: Sequence[Machine]) -> None:
        self._machines = machines
        self._begun_s = time.monotonic()
        self._before = self._used()

    def cores(self) -> dict[str, float]:
        """Return how many cores each machine has used since, by its name."""
        length_s = time.monotonic() - self._begun_s
        return {
            name: round(
                sum(used - self._before[name].get(pid, 0.0) for pid, used in by_pid.items())
                / length_s,
                2,
            )
            for name, by_pid in self._used().items()
        }

    def _used(self) -> Mapping[str, Mapping[int, float]]:
        return {
            machine.name: {pid: cpu_s_of(pid) for pid in pids_on(machine)}
            for machine in self._machines
        }
