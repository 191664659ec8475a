"""What a simulated cluster is like: its processes by name, its settings, its disks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from orchx.settings import AdmissionSettings, OwnerSettings, PoolSettings, SweepSettings

DISPATCHER: Final = "dispatcher"
STATE: Final = "state"
GATEWAY: Final = "gateway"
GROUP: Final = "group"  # no process: what the engines share partitions by
OWNER: Final = "owner"  # shared
LONE: Final = "lone"  # dedicated
ENGINES: Final = ("", "b/")
POOLS: Final = {"io": "pool-io", "other": "pool-other"}


@dataclass(slots=True, kw_only=True)
class Disk:
    """How stores behave, and evaluators (`short`): probabilities per operation."""

    fail: float = 0.0
    slow: float = 0.0
    slow_s: float = 0.2
    short: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """What a simulated cluster consists of, and its settings.

    `slow` is the probability that a step of a turn takes longer than any turn may.
    """

    shared: int
    dedicated: int
    owners: OwnerSettings
    pool: PoolSettings
    sweep: SweepSettings
    admission: AdmissionSettings
    running_limit: int
    memory_bytes: int
    batch_limit: int
    live_limit: int
    partitions: int
    engine_count: int
    slow: float

    @property
    def engines(self) -> tuple[str, ...]:
        """What the names of each engine's processes begin with."""
        return ENGINES[: self.engine_count]

    @property
    def owner_names(self) -> list[str]:
        """The names of all owners."""
        return [name for engine in self.engines for name in self.owners_of(engine)]

    def owners_of(self, engine: str) -> list[str]:
        """Return the names of an engine's owners."""
        shared = [f"{engine}{OWNER}-{number}" for number in range(self.shared)]
        return shared + [f"{engine}{LONE}-{number}" for number in range(self.dedicated)]

    @property
    def names(self) -> list[str]:
        """The names of all processes, in the order in which they start."""
        return [name for engine in self.engines for name in self._names_of(engine)]

    def _names_of(self, engine: str) -> list[str]:
        first = [engine + name for name in (STATE, *POOLS.values(), DISPATCHER)]
        return [*first, *self.owners_of(engine), engine + GATEWAY]


def split(name: str) -> tuple[str, str]:
    """Return an engine and what a process of it is."""
    engine, slash, kind = name.rpartition("/")
    return engine + slash, kind
