"""An installation on real servers whose workflows never ran, with the state service beside it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from orchx.adapters.kafka_command_indexer import CommandIndexer
from orchx.adapters.mongo_connection import MongoConnection
from orchx.adapters.system_clock import SystemClock
from orchx.domain.events import Request
from orchx.domain.messages import AnyCommand, StartWorkflow
from orchx.engine.causes import Causes
from orchx.engine.projection import Projection
from orchx.engine.projector import Projector
from orchx.engine.routing import Resolver
from orchx.errors import Unavailable
from orchx.maintenance.verifying import copy_of
from orchx.settings import Settings
from orchx.stores import KafkaStores, prepare_stores
from orchx.testing.made_histories import appends, mixed_histories
from tests import servers

NOW_MS = time.time_ns() // 1_000_000  # commands of long ago may be forgotten


def kafka_settings(partitions: int = 3) -> Settings:
    return Settings(
        profile="kafka",
        # Patient: what is tested is not how quick a busy machine is.
        kafka=servers.apache_kafka(partitions=partitions, request_timeout_ms=60_000),
        mongodb=servers.mongodb(timeout_ms=60_000),
        redis=servers.redis(timeout_ms=20_000),
    )


class NoSink:
    def offer(self, commands: Sequence[AnyCommand]) -> None:
        pass


def command(workflow_id: str, n: int = 1) -> StartWorkflow:
    return StartWorkflow(
        id=workflow_id,
        workflow_id=workflow_id,
        created_at_ms=NOW_MS,
        namespace="bench",
        name="five-tasks",
        version="1.0.0",
        digest="d",
        input={"n": n},
        request=Request(),
    )


async def make(settings: Settings, workflows: int, commands: int = 0) -> Settings:
    """Write workflows and commands to the topics; return the settings with the partitions."""
    settings = await prepare_stores(settings)
    stores = KafkaStores(settings)
    await stores.presence().leave("engine")  # none comes
    log, queue = stores.event_log(), stores.command_queue()
    try:
        for records in appends(mixed_histories(workflows)):
            await log.append(records)
        await queue.put([command(f"wf_asked{number}", number) for number in range(commands)])
    finally:
        for each in (log, queue, stores):
            await each.close()
    return settings


async def drop_databases(settings: Settings) -> None:
    """Lose all that is in MongoDB."""
    for each in (settings, copy_of(settings)):
        connection = MongoConnection(each.mongodb)
        await connection.drop_everything()
        await connection.close()


@asynccontextmanager
async def serving(settings: Settings) -> AsyncIterator[None]:
    """Run the state service, as an engine does, which is caught up when the block begins."""
    clock, stores = SystemClock(), KafkaStores(settings)
    log, queue, catalog = stores.event_log(), stores.command_queue(), stores.catalog()
    store, archive, indexer = stores.state_store(), stores.archive(), stores.command_indexer()
    resolver = Resolver(catalog, queue, log)
    causes = Causes(log=log, queue=queue, resolver=resolver, sink=NoSink(), clock=clock)

    def projector(partition: int) -> Projector:
        return Projector(
            log, store, clock, settings, partition=partition, observer=causes, archive=archive
        )

    projection = Projection(log, store, clock, projector)
    await stores.presence().note("engine", for_s=60)
    work = [asyncio.create_task(projection.run()), asyncio.create_task(indexer.run())]
    try:
        async with asyncio.timeout(60):
            while await _lags(projection, indexer):  # noqa: ASYNC110  it has no event
                await asyncio.sleep(0.02)
        yield
    finally:
        await indexer.close()
        for task in work:
            task.cancel()
        await asyncio.gather(*work, return_exceptions=True)
        await stores.presence().leave("engine")
        for each in (log, queue, store, stores):
            await each.close()


async def _lags(projection: Projection, indexer: CommandIndexer) -> bool:
    try:
        await projection.barrier()
    except Unavailable:  # it has not begun
        return True
    return await indexer.lag() > 0
