"""Turns the records of one partition of the log into webhook deliveries.

Deliveries have ids derived from their record, and are stored before the offset behind them,
so a crash anywhere neither loses nor doubles one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import msgspec

from orchx.domain.events import Record
from orchx.engine.callback_workflows import CallbackWorkflows, Callee
from orchx.engine.projector import distance
from orchx.ports.clock import Clock
from orchx.ports.deliveries import Deliveries, Delivery
from orchx.ports.event_log import EventLog

BATCH_LIMIT = 2_000
"""Records per step."""

UNSAVED_LIMIT = 5_000
"""Records without a delivery that are read again after a crash, instead of a write per batch."""

_encode = msgspec.json.Encoder().encode


class DeliveryCollector:
    """Tails a partition from its own offset. One per partition and delivery store.

    A delivery's body is the record's CloudEvent in structured mode (JSON). `made` is called
    when there are new deliveries.
    """

    def __init__(
        self,
        log: EventLog,
        deliveries: Deliveries,
        clock: Clock,
        made: Callable[[], None],
        *,
        partition: int = 0,
        batch_limit: int = BATCH_LIMIT,
    ) -> None:
        self._log = log
        self._deliveries = deliveries
        self._clock = clock
        self._made = made
        self._partition = partition
        self._batch_limit = batch_limit
        self._workflows = CallbackWorkflows(log)
        self._offset: int | None = None  # None: to be read from the store
        self._unsaved = 0

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
                self._offset = await self._deliveries.offset(self._partition)
            records = await self._log.tail(
                self._offset, limit=self._batch_limit, partition=self._partition
            )
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
        offset = self._offset
        if offset is None:
            offset = await self._deliveries.offset(self._partition)
        return await distance(self._log, offset, self._partition)

    async def _save(self, made: list[Delivery], records: int, offset: int) -> None:
        self._unsaved += records
        if made or self._unsaved >= UNSAVED_LIMIT:
            await self._deliveries.add(made, offset=offset, partition=self._partition)
            self._unsaved = 0
        self._offset = offset
        if made:
            self._made()

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
