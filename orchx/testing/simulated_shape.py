"""What a simulated cluster is like: its processes by name, its settings, its disks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from orchx.settings import AdmissionSettings, OwnerSettings, PoolSettings, SweepSettings

DISPATCHER: Final = "dispatcher"
STATE: Final = "state"
GATEWAY: Final = "gateway"
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
    slow: float

    @property
    def owner_names(self) -> list[str]:
        """The names of all owners; dedicated ones begin with `lone`."""
        shared = [f"owner-{number}" for number in range(self.shared)]
        return shared + [f"lone-{number}" for number in range(self.dedicated)]

    @property
    def names(self) -> list[str]:
        """The names of all processes, in the order in which they start."""
        return [STATE, *POOLS.values(), DISPATCHER, *self.owner_names, GATEWAY]
