"""Sends the webhooks that are due: in order within a workflow, side by side otherwise.

The order is the store's doing (`due` holds back what an earlier one precedes) and this
file's, which never has two of one workflow under way. A crash between an attempt and its
being stored repeats the attempt, under the same id.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from typing import NoReturn

import structlog

from orchx.engine.webhook_schedule import RetrySchedule
from orchx.engine.webhook_sending import Answer, WebhookSender
from orchx.errors import DriverError, StorageFull, TryLater
from orchx.ports.clock import Clock
from orchx.ports.deliveries import Deliveries, Delivery

AILING_HOST_CONCURRENCY = 2
"""Attempts at once to a host whose last attempt failed: it must not hold up the others."""

AILING_PART = 0.5
"""Of all attempts at once, what goes to ailing hosts together: many may be down at a time."""

AILING_HOSTS_LIMIT = 10_000
FAILURE_DELAY_S = 1.0

_log = structlog.get_logger(__name__)


class WebhookPump:
    """Keeps up to `concurrency` attempts under way."""

    def __init__(
        self,
        deliveries: Deliveries,
        sender: WebhookSender,
        clock: Clock,
        schedule: RetrySchedule,
        *,
        concurrency: int,
        interval_s: float,
    ) -> None:
        self._deliveries = deliveries
        self._sender = sender
        self._clock = clock
        self._schedule = schedule
        self._concurrency = concurrency
        self._interval_s = interval_s
        self._changed = asyncio.Event()
        self._under_way: dict[str, Delivery] = {}  # by workflow
        self._attempts: set[asyncio.Task[None]] = set()
        self._ended: list[Delivery] = []  # attempts over, not stored yet
        self._ailing: dict[str, None] = {}  # hosts, by when they failed last
        self._retry_at_ms: int | None = None
        self._bug: BaseException | None = None

    def wake(self) -> None:
        """Say that there are new deliveries."""
        self._changed.set()

    async def run(self) -> NoReturn:
        """Send for ever; ended by cancelling, which cancels the attempts under way too."""
        try:
            while True:
                self._changed.clear()
                try:
                    await self.settle()
                    await self.start_due()
                except (DriverError, StorageFull, TryLater) as error:
                    _log.warning("webhooks.failed", error=str(error), retry_after_s=FAILURE_DELAY_S)
                    await self._clock.sleep(FAILURE_DELAY_S)
                    continue
                await self._rest()
        finally:
            await self.stop()

    async def start_due(self) -> int:
        """Start attempts for what is due while there is room; return how many.

        What waits for a saturated host is left out, however much it is, so that it stands
        before nobody else; a host that gets its share here is left out of the next look.
        """
        now_ms = self._clock.now_ms()
        started = 0
        while (free := self._concurrency - len(self._under_way)) > 0:
            without = self._saturated()
            limit = free + len(self._under_way)  # those under way are due in the store's eyes
            due = await self._deliveries.due(now_ms=now_ms, limit=limit, without_hosts=without)
            count = self._start_some(due, free)
            started += count
            if len(due) < limit or (not count and self._saturated() == without):
                break
        return started

    async def settle(self) -> int:
        """Store what the attempts that are over came to; return how many."""
        if self._bug is not None:
            raise self._bug
        ended = self._ended[:]
        if not ended:
            return 0
        await self._deliveries.update(ended)
        del self._ended[: len(ended)]
        for delivery in ended:
            del self._under_way[delivery.workflow_id]
            if delivery.status == "pending" and (
                self._retry_at_ms is None or delivery.next_attempt_at_ms < self._retry_at_ms
            ):
                self._retry_at_ms = delivery.next_attempt_at_ms
        return len(ended)

    async def idle(self) -> None:
        """Return when no attempt is under way."""
        while self._attempts:
            await asyncio.wait(self._attempts)

    async def stop(self) -> None:
        """Cancel the attempts under way; they will be made again."""
        for attempt in self._attempts:
            attempt.cancel()
        await asyncio.gather(*self._attempts, return_exceptions=True)
        self._under_way.clear()
        self._ended.clear()

    def _start_some(self, due: Sequence[Delivery], free: int) -> int:
        saturated = self._saturated()
        started = 0
        for delivery in due:
            if started == free:
                break
            if delivery.workflow_id in self._under_way or delivery.host in saturated:
                continue
            self._start(delivery)
            started += 1
            if delivery.host in self._ailing:
                saturated = self._saturated()
        return started

    def _saturated(self) -> frozenset[str]:
        """Return the ailing hosts that get no more attempts now: all, if all have their part."""
        attempts = Counter(delivery.host for delivery in self._under_way.values())
        ailing = {host: count for host, count in attempts.items() if host in self._ailing}
        limit = max(AILING_HOST_CONCURRENCY, round(AILING_PART * self._concurrency))
        if sum(ailing.values()) >= limit:
            return frozenset(self._ailing)
        return frozenset(h for h, count in ailing.items() if count >= AILING_HOST_CONCURRENCY)

    def _start(self, delivery: Delivery) -> None:
        self._under_way[delivery.workflow_id] = delivery
        attempt = asyncio.create_task(self._attempt(delivery))
        self._attempts.add(attempt)
        attempt.add_done_callback(self._attempt_over)

    def _attempt_over(self, attempt: asyncio.Task[None]) -> None:
        self._attempts.discard(attempt)
        if not attempt.cancelled() and attempt.exception() is not None:
            self._bug = attempt.exception()  # `settle` raises it
            self._changed.set()

    async def _attempt(self, delivery: Delivery) -> None:
        answer = await self._answer(delivery)
        after = self._schedule.after(delivery, answer, self._clock.now_ms())
        self._ailing.pop(delivery.host, None)
        if after.status == "pending":
            self._ailing[delivery.host] = None
            if len(self._ailing) > AILING_HOSTS_LIMIT:
                del self._ailing[next(iter(self._ailing))]  # that failed longest ago
        self._ended.append(after)
        self._changed.set()

    async def _answer(self, delivery: Delivery) -> Answer:
        try:
            return await self._sender.send(delivery, at_ms=self._clock.now_ms())
        except Exception as error:  # the edge: what one receiver sends must not stop all webhooks
            _log.exception("webhooks.sender_failed", delivery=delivery.id, host=delivery.host)
            return Answer(error=f"orchx failed at it: {type(error).__name__}")

    async def _rest(self) -> None:
        """Wait for an attempt to end, for new deliveries, for a retry's time or the interval."""
        pause_s = self._interval_s
        if self._retry_at_ms is not None:
            pause_s = min(pause_s, max(0.0, (self._retry_at_ms - self._clock.now_ms()) / 1000))
            if pause_s < self._interval_s:
                self._retry_at_ms = None
        timer = asyncio.ensure_future(self._clock.sleep(pause_s))
        changed = asyncio.ensure_future(self._changed.wait())
        try:
            await asyncio.wait((timer, changed), return_when=asyncio.FIRST_COMPLETED)
        finally:
            timer.cancel()
            changed.cancel()
            await asyncio.gather(timer, changed, return_exceptions=True)
