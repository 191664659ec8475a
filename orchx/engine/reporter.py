"""Reports progress and outcomes to the callbacks that requests name.

Two halves that share a store: `collect` turns records of the log into deliveries, and the
`WebhookPump` sends them. Deliveries and the log offset behind them are stored together and
have ids derived from their record, so a crash anywhere neither loses nor doubles one.
"""

from __future__ import annotations

import asyncio
import hashlib
import secrets
from collections.abc import Callable
from typing import NoReturn

import msgspec
import structlog

from orchx.domain.events import Record
from orchx.engine.callback_workflows import CallbackWorkflows, Callee
from orchx.engine.webhook_pump import WebhookPump
from orchx.engine.webhook_schedule import RetrySchedule
from orchx.engine.webhook_sending import WebhookSender
from orchx.errors import DriverError, StorageFull, TryLater
from orchx.ports.clock import Clock
from orchx.ports.deliveries import Deliveries, Delivery
from orchx.ports.event_log import EventLog
from orchx.settings import Settings

BATCH_LIMIT = 2_000
"""Records per step."""

UNSAVED_LIMIT = 5_000
"""Records without a delivery that are read again after a crash, instead of a write per batch."""

FAILURE_DELAY_S = 1.0

_log = structlog.get_logger(__name__)
_encode = msgspec.json.Encoder().encode


class Reporter:
    """Tails the log from its own offset and sends webhooks. One per delivery store.

    A body is the record's CloudEvent in structured mode (JSON). `draw` returns random numbers
    in [0, 1) for the jitter.
    """

    def __init__(
        self,
        log: EventLog,
        deliveries: Deliveries,
        sender: WebhookSender,
        clock: Clock,
        settings: Settings,
        *,
        draw: Callable[[], float] | None = None,
        batch_limit: int = BATCH_LIMIT,
    ) -> None:
        self._log = log
        self._deliveries = deliveries
        self._sender = sender
        self._clock = clock
        self._batch_limit = batch_limit
        self._interval_s = settings.sweep.projector_interval_ms / 1000
        self._workflows = CallbackWorkflows(log)
        self._offset: int | None = None  # None: to be read from the store
        self._unsaved = 0
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

    async def run(self) -> NoReturn:
        """Collect and send for ever; ended from outside, by cancelling."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._collect_for_ever())
            await self.pump.run()

    async def collect(self) -> int:
        """Make the deliveries of one batch of records; return how many records it held.

        Not for two callers at once.

        Raises:
            DriverError, StorageFull, TryLater: a store failed; nothing is lost, and the next
                call begins where this one did.
        """
        done = False
        try:
            if self._offset is None:
                self._offset = await self._deliveries.offset()
            records = await self._log.tail(self._offset, limit=self._batch_limit)
            made: list[Delivery] = []
            for record in records:
                callee = await self._workflows.callee(record)
                if callee is not None and callee.reports(record):
                    made.append(self._delivery(record, callee))
                self._workflows.settle(record, callee)
            if records:
                await self._save(made, len(records), records[-1].offset)
            done = True
            return len(records)
        finally:
            if not done:
                self._offset = None
                self._unsaved = 0
                self._workflows.forget()

    async def lag(self) -> int:
        """Return how far the deliveries are behind the log, in offsets."""
        offset = self._offset if self._offset is not None else await self._deliveries.offset()
        return max(0, await self._log.last_offset() - offset)

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

    async def _save(self, made: list[Delivery], records: int, offset: int) -> None:
        self._unsaved += records
        if made or self._unsaved >= UNSAVED_LIMIT:
            await self._deliveries.add(made, offset=offset)
            self._unsaved = 0
        self._offset = offset
        if made:
            self.pump.wake()

    def _delivery(self, record: Record, callee: Callee) -> Delivery:
        event = callee.cloud_event(record)
        now_ms = self._clock.now_ms()
        return Delivery(
            id=webhook_id(record),
            workflow_id=record.workflow_id,
            tenant=callee.tenant,
            position=record.offset,
            url=callee.url,
            event_type=str(event["type"]),
            body=_encode(event),
            created_at_ms=now_ms,
            next_attempt_at_ms=now_ms,
        )


def webhook_id(record: Record) -> str:
    """Return the `webhook-id` of a record: the same whenever and by whomever it is made."""
    name = f"{record.workflow_id}\n{record.epoch}\n{record.seq}"
    return "msg_" + hashlib.sha256(name.encode()).hexdigest()[:32]
