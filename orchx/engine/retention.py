"""Forgets what is over: the files beside the log must not grow for ever.

The log is not touched. What is forgotten here are commands that were applied, and webhooks
that were delivered or given up.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol

import structlog

from orchx.errors import Bug, OrchxError
from orchx.ports.clock import Clock
from orchx.ports.command_queue import CommandQueue
from orchx.ports.deliveries import Deliveries, EndedStatus
from orchx.settings import RetentionSettings

INTERVAL_S = 60.0
DAY_MS = 24 * 3_600_000
DELIVERIES_LIMIT = 1_000
"""Deliveries per transaction, so that the others have their turn in between."""

BATCHES_LIMIT = 1_000
"""Transactions per step; what is left waits for the next."""

logger = structlog.get_logger(__name__)


class Retention(Protocol):
    """Knows what of one store is old enough."""

    async def forget(self) -> int:
        """Forget it, and return how much that was."""
        ...


async def forget_for_ever(retention: Retention, clock: Clock) -> None:
    """Forget every `INTERVAL_S`; what fails is logged, and made again next time."""
    while True:
        await clock.sleep(INTERVAL_S)
        try:
            count = await retention.forget()
            if count:
                logger.info("old entries forgotten", of=type(retention).__name__, count=count)
        except Bug:  # this process cannot do its work any more: another is to
            raise
        except OrchxError as error:
            logger.warning("forgetting failed", of=type(retention).__name__, error=str(error))


class CommandRetention:
    """Forgets acknowledged commands that were accepted `commands_days` ago.

    `barrier` returns when the projection holds all that is in the log now. By then the
    projector has queued whatever old records cause: none of it can be asked for again.
    """

    def __init__(
        self,
        queue: CommandQueue,
        clock: Clock,
        settings: RetentionSettings,
        barrier: Callable[[], Awaitable[None]],
    ) -> None:
        self._queue = queue
        self._clock = clock
        self._keep_ms = round(settings.commands_days * DAY_MS)
        self._barrier = barrier

    async def forget(self) -> int:
        """Forget what is old, and return how many commands that were.

        Raises:
            TryLater, DriverError, StorageFull: nothing, or not all, was forgotten.
        """
        older_than_ms = self._clock.now_ms() - self._keep_ms
        await self._barrier()
        return await self._queue.prune(older_than_ms=older_than_ms)


class DeliveryRetention:
    """Forgets webhooks some days after they were delivered, or given up."""

    def __init__(self, deliveries: Deliveries, clock: Clock, settings: RetentionSettings) -> None:
        self._deliveries = deliveries
        self._clock = clock
        self._keep_ms: dict[EndedStatus, int] = {
            "delivered": round(settings.deliveries_days * DAY_MS),
            "undelivered": round(settings.undelivered_days * DAY_MS),
        }

    async def forget(self) -> int:
        """Forget what is old, and return how many webhooks that were.

        Raises:
            DriverError, StorageFull: not all was forgotten.
        """
        now_ms = self._clock.now_ms()
        total = 0
        for status, keep_ms in self._keep_ms.items():
            count = await self._forget(status, now_ms - keep_ms)
            if count and status == "undelivered":
                logger.warning("undelivered webhooks forgotten", count=count)
            total += count
        return total

    async def _forget(self, status: EndedStatus, ended_before_ms: int) -> int:
        total = 0
        for _ in range(BATCHES_LIMIT):
            count = await self._deliveries.prune(
                status=status, ended_before_ms=ended_before_ms, limit=DELIVERIES_LIMIT
            )
            total += count
            if count < DELIVERIES_LIMIT:
                break
        return total
