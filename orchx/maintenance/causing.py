"""What a state service has beside its stores: the net that turns records into commands."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from orchx.domain.messages import AnyCommand
from orchx.engine.causes import Causes
from orchx.engine.routing import Resolver
from orchx.ports.clock import Clock
from orchx.ports.event_log import EventLog
from orchx.stores import Stores


@asynccontextmanager
async def causes_of(stores: Stores, log: EventLog, clock: Clock) -> AsyncIterator[Causes]:
    """Queue what records cause, with the index of commands fed meanwhile."""
    queue, catalog, indexer = stores.command_queue(), stores.catalog(), stores.command_indexer()
    indexing = None if indexer is None else asyncio.create_task(indexer.run())
    try:
        yield Causes(
            log=log,
            queue=queue,
            resolver=Resolver(catalog, queue, log),
            sink=_NoSink(),
            clock=clock,
        )
    finally:
        if indexer is not None:
            await indexer.close()
        if indexing is not None:
            await indexing
        await queue.close()
        await catalog.close()


class _NoSink:
    """Where no Dispatcher is: the queue has the commands."""

    def offer(self, commands: Sequence[AnyCommand]) -> None:
        """Do nothing."""
