"""Keeps the window of commands in step with the topic: reads, pauses, commits."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Sequence
from typing import Final

import structlog

from orchx.adapters.coalesced_query import CoalescedQuery
from orchx.adapters.kafka_command_reader import KafkaCommandReader
from orchx.adapters.kafka_command_records import PoisonedRecord, Received, receive
from orchx.adapters.kafka_command_window import CommandWindow
from orchx.adapters.kafka_connection import Topics
from orchx.errors import Bug, DriverError, OrchxError, Unavailable
from orchx.settings import KafkaSettings

POLL_WAIT_MS: Final = 200
COMMIT_INTERVAL_S: Final = 1.0
RESTART_PAUSE_S: Final = 1.0
CATCH_UP_TIMEOUT_S: Final = 10.0
CLOSE_CATCH_UP_S: Final = 2.0

logger = structlog.get_logger(__name__)


def group_of(settings: KafkaSettings) -> str:
    """Return the group whose committed offsets say what is acknowledged."""
    return f"{settings.topic_prefix}.dispatcher"


class CommandFeed:
    """Reads the topic into a window from the group's committed offsets on.

    Every `COMMIT_INTERVAL_S` the window's watermarks are committed: what is acknowledged above
    them comes again after a crash. For now one process has all partitions.
    """

    def __init__(
        self,
        settings: KafkaSettings,
        ends: CoalescedQuery[dict[int, int]],
        window: CommandWindow | None = None,
    ) -> None:
        """Start nothing yet.

        Args:
            settings: where Kafka is.
            ends: asks for the topic's end offsets.
            window: what is filled; one with the usual bounds if absent.
        """
        self.window = CommandWindow() if window is None else window
        self._topic = Topics(settings.topic_prefix).commands
        self._reader = KafkaCommandReader(
            settings, self._topic, "command-window", group=group_of(settings)
        )
        self._ends = ends
        self._task: asyncio.Task[None] | None = None
        self._closing = False
        self._progress = asyncio.Event()
        self._failure: OrchxError | None = None
        self._missed = 0
        self._committed: dict[int, int] = {}
        self._committed_at_s = -COMMIT_INTERVAL_S

    async def catch_up(self) -> dict[int, int]:
        """Wait until all that was on the topic when this was called is in the window.

        A full window is as far as it gets. Returns the ends that were to be reached.

        Raises:
            DriverError: Kafka is out of reach.
            Unavailable: reading stands still.
        """
        self.start()
        ends = await self._ends.get()
        try:
            async with asyncio.timeout(CATCH_UP_TIMEOUT_S) as patience:
                left = self._unread(ends)
                while left and not self.window.full:
                    self._raise_failure()
                    await self._progress.wait()
                    before, left = left, self._unread(ends)
                    if left < before:  # a long topic takes its time
                        patience.reschedule(asyncio.get_running_loop().time() + CATCH_UP_TIMEOUT_S)
        except TimeoutError as error:
            raise Unavailable(
                f"nothing of {self._topic} was read for {CATCH_UP_TIMEOUT_S:g} s; are the brokers "
                "of ORCHX_KAFKA__BOOTSTRAP_SERVERS up?"
            ) from error
        return ends

    def start(self) -> None:
        """Begin to read, unless that has begun."""
        if self._task is None and not self._closing:
            self._task = asyncio.create_task(self._run(), name="command-feed")

    async def close(self) -> None:
        """Stop reading, commit the watermarks and let go of the connections."""
        if self._closing:
            return
        if self._task is not None and self.window.expects:
            # What was acknowledged before it was read is to be durable too, if that is quick.
            with contextlib.suppress(OrchxError, TimeoutError):
                async with asyncio.timeout(CLOSE_CATCH_UP_S):
                    await self.catch_up()
        self._closing = True
        if self._task is not None:
            await asyncio.wait((self._task,))  # ends when the poll under way does
            await self._commit()
        await self._reader.close()

    def _unread(self, ends: dict[int, int]) -> int:
        """Return how much is to be read; before it is known from where on, all of it."""
        return self.window.unread(ends) if self._assigned else sum(ends.values()) + 1

    @property
    def _assigned(self) -> bool:
        return bool(self.window.next_offsets())

    def _raise_failure(self) -> None:
        if self._closing:
            raise DriverError(f"the queue on {self._topic} is closed")
        if self._task is not None and self._task.done():
            raise Bug(f"reading {self._topic} has ended") from self._task.exception()
        if self._failure is not None:
            raise type(self._failure)(*self._failure.args)

    async def _run(self) -> None:
        try:
            while not self._closing:
                try:
                    await self._follow()
                except OrchxError as error:
                    logger.error("commands are not read", topic=self._topic, error=str(error))
                    # A fresh one, for this one's traceback keeps alive all that was at hand.
                    self._failure = type(error)(*error.args)
                    self._signal()
                    await asyncio.sleep(RESTART_PAUSE_S)
        finally:
            self._signal()

    async def _follow(self) -> None:
        if not self._assigned:
            self._committed = dict(await self._reader.committed())
            self.window.assign(self._committed)
        await self._reader.follow(self.window.next_offsets())
        held = False
        while not self._closing:
            if held != self.window.full:
                held = not held
                await self._reader.hold(held)
            batch = await self._reader.poll(receive, POLL_WAIT_MS)
            self.window.take(batch.items, batch.next_offsets)
            self._failure = None
            self._signal()
            self._report(batch.items)
            if time.monotonic() - self._committed_at_s >= COMMIT_INTERVAL_S:
                await self._commit()

    def _report(self, received: Sequence[Received]) -> None:
        """Log what was left out; the indexer keeps copies of what is poisoned."""
        for one in received:
            if isinstance(one, PoisonedRecord):
                logger.error("not a command, skipped", topic=self._topic, **one.where())
        if self.window.missed > self._missed:
            logger.error(
                "commands expired before they were acknowledged",
                topic=self._topic,
                count=self.window.missed - self._missed,
            )
            self._missed = self.window.missed

    async def _commit(self) -> None:
        """Commit watermarks that have changed. If it fails, the next time does it."""
        self._committed_at_s = time.monotonic()
        watermarks = self.window.watermarks()
        changed = {
            partition: offset
            for partition, offset in watermarks.items()
            if self._committed.get(partition) != offset
        }
        if not changed:
            return
        try:
            await self._reader.commit(changed)
        except DriverError as error:
            logger.warning("acknowledgements not committed", error=str(error))
        else:
            self._committed.update(changed)

    def _signal(self) -> None:
        """Have those who wait look again."""
        self._progress.set()
        self._progress = asyncio.Event()
