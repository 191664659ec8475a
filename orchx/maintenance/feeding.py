"""Bringing an index of commands up to the end of its topic."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from orchx.adapters.kafka_command_indexer import CommandIndexer
from orchx.adapters.kafka_topic_bounds import Bounds
from orchx.adapters.mongo_command_index import MongoCommandIndex
from orchx.engine.reprojection import Progress, Told, persistently
from orchx.errors import DriverError
from orchx.ports.clock import Clock

STAGE: Final = "indexing commands"
STEPS_AT_ONCE: Final = 10  # between looks at how far it is

IDLE_ROUNDS_MAX: Final = 150
"""Each has waited 0.2 s for a record."""


async def feed_index(
    indexer: CommandIndexer,
    index: MongoCommandIndex,
    bounds: Bounds,
    clock: Clock,
    told: Told,
    *,
    up_to: Mapping[int, int] | None = None,
) -> None:
    """Index what stands on the topic, at least up to `up_to`, or else up to its end.

    Raises:
        DriverError, TryLater, StorageFull: Kafka or MongoDB failed, again and again; or nothing
            more comes.
    """
    target = bounds.end
    if up_to is not None:  # an index may know of more than a topic that was made anew
        target = {p: min(up_to.get(p, 0), end) for p, end in bounds.end.items()}
    total, before, idle = sum(target.values()), -1, 0
    while True:
        there = await index.next_offsets()
        done = sum(min(there.get(p, 0), offset) for p, offset in target.items())
        told(Progress(stage=STAGE, done=done, total=total))
        if done >= total:
            return
        idle = 0 if done > before else idle + 1
        if idle > IDLE_ROUNDS_MAX:
            raise DriverError(f"the commands were not read to their end: {done} of {total}")
        before = done
        for _ in range(STEPS_AT_ONCE):
            if not await persistently(STAGE, indexer.step, clock):
                break
