"""What goes wrong in a simulation: how much of it, when, and that it ends."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable

from orchx.settings import AdmissionSettings, OwnerSettings, PoolSettings, SweepSettings
from orchx.testing.simulated_cluster import Cluster
from orchx.testing.simulated_network import Weather
from orchx.testing.simulated_services import Mood, Services
from orchx.testing.simulated_shape import (
    DISPATCHER,
    GATEWAY,
    GROUP,
    POOLS,
    STATE,
    Disk,
    Shape,
    split,
)

MAX_CRASHES = 16
"""Processes killed in one simulation, times the harm."""

SKEW_MS = 150
"""How far a clock is off that nobody sets."""

CLOCK_SET_CHANCE = 0.5
"""Of a clock being set, each time harm may be done."""

POOL_CLOCK_SET_MS = 3_600_000
"""By how much that of a pool may be set, and left wrong: nothing there is due at a date."""


class Chaos:
    """Kills processes, cuts links, and makes disks, network and services misbehave.

    Args:
        plan: decides what this seed is like.
        chance: decides what happens when.
        clocks: decides whether clocks are set, when and how.
        note: takes a line for the trace.
    """

    def __init__(
        self,
        cluster: Cluster,
        services: Services,
        *,
        plan: random.Random,
        chance: random.Random,
        clocks: random.Random,
        note: Callable[[str], None],
    ) -> None:
        self._cluster = cluster
        self._services = services
        self._plan = plan
        self._chance = chance
        self._clocks = clocks
        self._note = note
        self.clock_set_ms = clocks.choice((0, 0, 2_000, 30_000))
        """By how much a clock on a wall may be set forwards or backwards at once."""
        # One seed in eight knows no faults, one in eight all of them at their worst.
        self._harm = plan.choice((0.0, 0.1, 0.3, 0.3, 0.6, 0.6, 1.0, 1.5))
        self._doubles = plan.choice((0.0, 0.3, 0.8))  # of the crashes
        self._crashes = plan.choice((0.4, 0.4, 0.05, 0.8))  # of the harm that `rage` does

    def begin(self) -> None:
        """Let misfortune have its way from now on; before the first process starts."""
        harm, cluster, draw = self._harm, self._cluster, self._plan.random
        cluster.network.weather = Weather(
            drop=0.15 * harm * draw(),
            duplicate=0.2 * harm * draw(),
            late=0.2 * harm * draw(),
            delay_s=self._plan.choice((0.001, 0.02, 0.3)),
        )
        cluster.disk = Disk(
            fail=0.05 * harm * draw(),
            slow=0.3 * harm * draw(),
            slow_s=self._plan.choice((0.05, 0.2, 3.0)),
            short=0.05 * harm * draw(),
        )
        cluster.accidents.fuse = 0.5 * harm
        cluster.accidents.fuse_length = self._plan.choice((10, 60, 300))
        cluster.accidents.left = int(MAX_CRASHES * harm)
        self._services.mood = Mood(
            fail=0.3 * draw() * min(1.0, harm + 0.2),
            throttle=0.2 * draw() * min(1.0, harm + 0.2),
            hang=0.1 * harm * draw(),
            lose_answer=0.15 * harm * draw(),
            slow=0.2 * draw(),
            latency_s=self._plan.choice((0.005, 0.1, 0.8, 2.5)),
        )

    async def rage(self, duration_s: float, look: Callable[[], None]) -> None:
        """Do harm now and then for a while; `look` in between."""
        loop = asyncio.get_running_loop()
        until_s = loop.time() + duration_s
        while loop.time() < until_s:
            await asyncio.sleep(self._chance.random() * 1.2)
            look()
            if self._chance.random() < self._harm * 0.8:
                self._do_harm()
            self._set_a_clock()

    def _set_a_clock(self) -> None:
        alive = self._cluster.alive()
        if self.clock_set_ms and alive and self._clocks.random() < CLOCK_SET_CHANCE:
            process = self._clocks.choice(alive)
            is_pool = process.name in POOLS.values()
            limit_ms = POOL_CLOCK_SET_MS if is_pool else self.clock_set_ms
            skew_ms = self._clocks.randrange(-limit_ms, limit_ms + 1)
            self._note(f"set the clock of {process.incarnation} skew={skew_ms}")
            process.clock.set_skew(skew_ms)

    def _do_harm(self) -> None:
        cluster, chance = self._cluster, self._chance
        if chance.random() < self._crashes and cluster.accidents.left > 0:
            alive = cluster.alive()
            if alive:
                victim = chance.choice(alive)
                if chance.random() < self._doubles and split(victim.name)[1] != GATEWAY:
                    cluster.double(victim)
                else:
                    cluster.crash(victim)
        elif chance.random() < 0.65:
            engine = chance.choice(cluster.shape.engines)
            owner = chance.choice(cluster.shape.owners_of(engine))
            other = chance.choice((DISPATCHER, DISPATCHER, DISPATCHER, *POOLS.values()))
            pair = chance.choice(((GATEWAY, DISPATCHER), (DISPATCHER, STATE)))
            if chance.random() < 0.8:
                pair = (split(owner)[1], other)
            pair = (engine + pair[0], engine + pair[1])
            if cluster.shape.partitions > 1 and chance.random() < 0.3:
                pair = (engine + DISPATCHER, GROUP)
            self._note(f"cut {pair}")
            cluster.network.cut(*pair)
        else:
            self._note("heal")
            cluster.network.heal()

    def end(self) -> None:
        """Let everything be well from now on."""
        self._note("calm")
        cluster = self._cluster
        cluster.network.weather = Weather()
        cluster.network.heal()
        cluster.bury()
        cluster.disk = Disk()
        cluster.accidents.left = 0
        for process in cluster.network.processes.values():
            process.fuse = None
            if self.clock_set_ms and process.name not in POOLS.values():
                process.clock.set_skew(self._clocks.randrange(-SKEW_MS, SKEW_MS + 1))
        cluster.start_all()
        self._services.mood = Mood()


def random_shape(plan: random.Random) -> Shape:
    """Draw a cluster: how many owners, and how narrow every limit is."""
    partitions, engines = plan.choice(((1, 1), (1, 1), (3, 1), (3, 2)))
    return Shape(
        shared=plan.choice((1, 1, 2)),
        dedicated=plan.choice((0, 1, 1)),
        owners=OwnerSettings(
            shared_capacity=plan.choice((3, 8, 50)),
            lease_ms=plan.choice((1_500, 4_000)),
            passivate_after_ms=plan.choice((0, 200, 1_000)),
        ),
        pool=PoolSettings(
            io_concurrency=plan.choice((1, 4, 64)),
            queue_limit=plan.choice((2, 100)),
            default_timeout_ms=plan.choice((1_500, 8_000)),
            recent_results=plan.choice((0, 3, 1_000)),
        ),
        sweep=SweepSettings(interval_ms=1_000, projector_interval_ms=plan.choice((100, 500))),
        admission=AdmissionSettings(backlog_limit=plan.choice((3, 1_000))),
        running_limit=plan.choice((1, 4, 100)),
        memory_bytes=plan.choice((0, 1_000, 1_000_000)),
        batch_limit=plan.choice((3, 2_000)),
        live_limit=plan.choice((1, 4_096)),
        slow=plan.choice((0.0, 0.0, 0.01, 0.1)),
        partitions=partitions,
        engine_count=engines,
    )
