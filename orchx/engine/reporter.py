"""Reports progress and outcomes to the callbacks that requests name.

Two halves that share a store: collectors, one for each partition of the log, turn records
into deliveries, and the `WebhookPump` sends them.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Collection, Sequence
from typing import NoReturn

import structlog

from orchx.engine.delivery_collector import BATCH_LIMIT, DeliveryCollector
from orchx.engine.webhook_pump import WebhookPump
from orchx.engine.webhook_schedule import RetrySchedule
from orchx.engine.webhook_sending import WebhookSender
from orchx.errors import DriverError, StorageFull, TryLater
from orchx.ports.clock import Clock
from orchx.ports.deliveries import Deliveries
from orchx.ports.event_log import EventLog
from orchx.settings import Settings

FAILURE_DELAY_S = 1.0
CHOSEN_POLL_S = 0.2

_log = structlog.get_logger(__name__)


class Reporter:
    """Collects from every partition and sends webhooks. One per delivery store.

    `draw` returns random numbers in [0, 1) for the jitter. If it is not `alone`, the engine
    that serves partition 0 is the one that reports: two at once would send webhooks twice, and
    out of order.
    """

    def __init__(
        self,
        log: EventLog,
        deliveries: Deliveries,
        sender: WebhookSender,
        clock: Clock,
        settings: Settings,
        *,
        alone: bool = True,
        draw: Callable[[], float] | None = None,
        batch_limit: int = BATCH_LIMIT,
    ) -> None:
        self._log = log
        self._deliveries = deliveries
        self._clock = clock
        self._batch_limit = batch_limit
        self._interval_s = settings.webhooks.collect_interval_ms / 1000
        self._alone = alone
        # Shorter than the session after which the group gives its partitions away.
        session_ms = settings.kafka.session_timeout_ms
        self._term_ms = min(settings.owners.lease_ms, session_ms // 2)
        self._reports_until_ms = 0
        self._collectors: Sequence[DeliveryCollector] = ()
        webhooks = settings.webhooks
        self.pump = WebhookPump(
            deliveries,
            sender,
            clock,
            RetrySchedule(
                first_delay_ms=webhooks.first_delay_ms,
                give_up_after_s=webhooks.give_up_after_s,
                draw=draw or secrets.SystemRandom().random,
            ),
            concurrency=webhooks.concurrency,
            interval_s=settings.sweep.interval_ms / 1000,
        )

    def serve(self, partitions: Collection[int]) -> None:
        """Say which partitions this engine serves; to be said again before the term ends."""
        self._reports_until_ms = self._clock.ticks_ms() + self._term_ms if 0 in partitions else 0

    async def run(self) -> NoReturn:
        """Collect and send while this is the engine that does; ended from outside."""
        if self._alone:
            await self._report()
        while True:
            while not self._is_chosen():
                await self._clock.sleep(CHOSEN_POLL_S)
            work = asyncio.ensure_future(self._report())
            try:
                while self._is_chosen() and not work.done():
                    await self._clock.sleep(CHOSEN_POLL_S)
            finally:
                work.cancel()
                await asyncio.wait((work,))
            if not work.cancelled():
                work.result()

    def _is_chosen(self) -> bool:
        return self._clock.ticks_ms() < self._reports_until_ms

    async def _report(self) -> NoReturn:
        async with asyncio.TaskGroup() as group:
            group.create_task(self._collect_for_ever())
            await self.pump.run()

    async def collect(self) -> int:
        """Make the deliveries of a batch of each partition; return the records of the largest.

        Not for two callers at once.

        Raises:
            DriverError, StorageFull, TryLater: a store failed; nothing is lost, and the next
                call begins where this one did.
        """
        collectors = await self._ready_collectors()
        work = (collector.collect() for collector in collectors)
        collected = 0
        # All of them, whatever one meets: a partition must not hold up the others' webhooks.
        for result in await asyncio.gather(*work, return_exceptions=True):
            if isinstance(result, BaseException):
                raise result
            collected = max(collected, result)
        return collected

    async def lag(self) -> int:
        """Return how far the deliveries are behind the log, in offsets of all partitions."""
        collectors = await self._ready_collectors()
        # All at once: the log then asks once where its partitions end.
        return sum(await asyncio.gather(*(collector.lag() for collector in collectors)))

    async def _ready_collectors(self) -> Sequence[DeliveryCollector]:
        if not self._collectors:
            count = await self._log.partitions()
            self._collectors = [
                DeliveryCollector(
                    self._log,
                    self._deliveries,
                    self._clock,
                    self.pump.wake,
                    partition=partition,
                    batch_limit=self._batch_limit,
                )
                for partition in range(count)
            ]
        return self._collectors

    async def _collect_for_ever(self) -> NoReturn:
        while True:
            try:
                collected = await self.collect()
            except (DriverError, StorageFull, TryLater) as error:
                _log.warning("reporter.failed", error=str(error), retry_after_s=FAILURE_DELAY_S)
                await self._clock.sleep(FAILURE_DELAY_S)
                continue
            if collected < self._batch_limit:
                await self._clock.sleep(self._interval_s)
