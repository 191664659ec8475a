"""`orchx repartition`: moves the log and the commands to topics with other numbers of partitions.

A workflow's records come from one partition and are copied in order into one, so their order
holds. The old topics are sealed first: what a process that nobody knows of still writes is
refused by the brokers. The database switches over in one transaction; before it everything can
be undone, and after it everything is made from the new topics.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from orchx.adapters import kafka_sealing
from orchx.adapters.kafka_connection import Topics
from orchx.adapters.kafka_topic_bounds import bounds_of, check_complete
from orchx.adapters.mongo_switch import MongoSwitch
from orchx.engine.reprojection import Told, nobody
from orchx.errors import Conflict, InvalidRequest
from orchx.maintenance.moving import Move
from orchx.maintenance.replacing import Replaced, alone, replace_stores
from orchx.settings import Settings
from orchx.stores import KafkaStores

PARTITIONS_MAX: Final = 4_096

_GENERATION: Final = re.compile(r"(.*)-(\d{1,9})")


@dataclass(frozen=True, slots=True, kw_only=True)
class Repartitioned:
    """What was moved; `topic_prefix` is the setting's new value, `old_topics` can be deleted."""

    topic_prefix: str
    partitions: int
    old_topics: Sequence[str]
    turns: int
    commands: int
    unacknowledged: int
    replaced: Replaced
    took_s: float


def next_prefix(prefix: str) -> str:
    """Return the topic prefix of the next generation: after `orchx` comes `orchx-2`."""
    found = _GENERATION.fullmatch(prefix)
    return f"{prefix}-2" if found is None else f"{found[1]}-{int(found[2]) + 1}"


async def repartition(
    settings: Settings, *, partitions: int, to: str | None = None, told: Told = nobody
) -> Repartitioned:
    """Move to topics with so many partitions.

    Run again after it was cut short, it does what is missing.

    Args:
        settings: of the installation as it is.
        partitions: how many there are to be.
        to: the topic prefix of the new ones; the next generation's if absent.
        told: hears of the progress.

    Raises:
        Conflict, InvalidRequest: it cannot be done; nothing was changed.
        DriverError, TryLater, StorageFull: a store, or the log, cannot be used.
    """
    if not 1 <= partitions <= PARTITIONS_MAX:
        raise InvalidRequest(f"{partitions}: there are 1 to {PARTITIONS_MAX} partitions")
    begun_s = time.monotonic()
    _check_profile(settings)
    target = _target(settings, partitions, to)
    stores = KafkaStores(settings)
    try:
        await _check_place(settings, stores, target)
        async with alone(settings, stores.presence(), told):
            await _begin(settings, stores, target)
            move = Move(settings, target, told)
            await move.drain()
            await move.copy()
            await MongoSwitch(stores.mongodb).complete(
                to=target.kafka.topic_prefix,
                ends=await move.ends(),
                acknowledged=move.acknowledged,
            )
            replaced = await _replace(target, told)
    finally:
        await stores.close()
    old = KafkaStores(settings).cache()
    try:
        await old.clear()
    finally:
        await old.close()
    return Repartitioned(
        topic_prefix=target.kafka.topic_prefix,
        partitions=partitions,
        old_topics=_names(settings),
        turns=move.turns,
        commands=move.commands,
        unacknowledged=move.unacknowledged,
        replaced=replaced,
        took_s=time.monotonic() - begun_s,
    )


async def undo(settings: Settings) -> None:
    """Give up a move that was cut short, and have the old topics take records again.

    Raises:
        Conflict: none was begun, or an engine serves.
        DriverError, TryLater: a store, or Kafka, cannot be used.
    """
    _check_profile(settings)
    stores = KafkaStores(settings)
    try:
        switch = MongoSwitch(stores.mongodb)
        async with alone(settings, stores.presence()):
            plan = await switch.plan()
            if plan is None:
                raise Conflict("no `orchx repartition` was begun that could be undone")
            for topic in _written(settings):
                await asyncio.to_thread(kafka_sealing.unseal, settings.kafka, topic)
            names = _names(_target(settings, plan[1], plan[0]))
            await asyncio.to_thread(kafka_sealing.delete, settings.kafka, names)
            await switch.give_up()
    finally:
        await stores.close()


def _check_profile(settings: Settings) -> None:
    if settings.profile == "embedded":
        raise InvalidRequest("the embedded log is one file, and has no partitions to change")


def _target(settings: Settings, partitions: int, to: str | None) -> Settings:
    prefix = next_prefix(settings.kafka.topic_prefix) if to is None else to
    if prefix == settings.kafka.topic_prefix:
        raise InvalidRequest(f"--to {prefix}: that is where the topics are now")
    kafka = settings.kafka.model_copy(update={"topic_prefix": prefix, "partitions": partitions})
    return settings.model_copy(update={"kafka": kafka})


def _names(settings: Settings) -> list[str]:
    topics = Topics(settings.kafka.topic_prefix)
    return [topics.events, topics.commands, topics.plans, topics.dead_letters]


def _written(settings: Settings) -> list[str]:
    topics = Topics(settings.kafka.topic_prefix)
    return [topics.events, topics.commands]


async def _check_place(settings: Settings, stores: KafkaStores, target: Settings) -> None:
    """Check that the installation is where the settings say."""
    bound = await stores.installation().bound()
    if bound is None:
        raise Conflict(
            "the database knows nothing of this installation: `orchx rebuild --replace` first"
        )
    if bound[0] != settings.kafka.topic_prefix:
        raise Conflict(
            f"this installation's topics have the prefix {bound[0]!r} and {bound[1]} partitions: "
            f"set ORCHX_KAFKA__TOPIC_PREFIX={bound[0]}"
        )
    await stores.installation().check_whole()
    await asyncio.to_thread(check_complete, settings.kafka)
    topic = Topics(settings.kafka.topic_prefix).events
    bounds = await asyncio.to_thread(bounds_of, settings.kafka, topic)
    if len(bounds.end) == target.kafka.partitions:
        raise Conflict(f"there are {target.kafka.partitions} partitions already")


async def _begin(settings: Settings, stores: KafkaStores, target: Settings) -> None:
    """Note what is begun; what a former attempt has copied is deleted, for it may be half of it."""
    switch, names = MongoSwitch(stores.mongodb), _names(target)
    prefix = target.kafka.topic_prefix
    if await switch.plan() is None:
        there = await asyncio.to_thread(kafka_sealing.existing, settings.kafka, names)
        if there:
            raise Conflict(f"{', '.join(there)} exist already: give another prefix with --to")
    await switch.begin(to=prefix, partitions=target.kafka.partitions)
    await asyncio.to_thread(kafka_sealing.delete, settings.kafka, names)


async def _replace(target: Settings, told: Told) -> Replaced:
    stores = KafkaStores(target)
    try:
        return await replace_stores(target, stores, None, told)
    finally:
        await stores.close()
