"""Bringing an index of commands up to the end of its topic."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from orchx.adapters.kafka_command_indexer import CommandIndexer
from orchx.adapters.kafka_topic_bounds import Bounds
from orchx.adapters.mongo_command_index import MongoCommandIndex
from orchx.engine.reprojection import Progress, Told, persistently
from orchx.ports.clock import Clock

STAGE: Final = "indexing commands"


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
        DriverError, TryLater, StorageFull: Kafka or MongoDB failed, again and again.
    """
    target = bounds.end if up_to is None else up_to
    total = sum(target.values())
    while True:
        there = await index.next_offsets()
        done = sum(min(there.get(p, 0), offset) for p, offset in target.items())
        told(Progress(stage=STAGE, done=done, total=total))
        if done >= total:
            return
        for _ in range(10):
            if not await persistently(STAGE, indexer.step, clock):
                break
