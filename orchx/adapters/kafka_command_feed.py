"""Keeps the window of commands in step with the topic: reads, pauses, commits."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Collection, Iterator, Sequence
from functools import partial
from typing import Final

import structlog

from orchx.adapters.coalesced_query import CoalescedQuery
from orchx.adapters.kafka_command_reader import POLL_RECORDS_MAX, KafkaCommandReader
from orchx.adapters.kafka_command_records import (
    PoisonedRecord,
    Received,
    ReceivedCommand,
    decode_command,
    receive,
)
from orchx.adapters.kafka_command_window import CommandWindow
from orchx.adapters.kafka_connection import Topics
from orchx.adapters.mongo_command_index import MongoCommandIndex
from orchx.adapters.mongo_command_progress import Acknowledged, MongoCommandProgress
from orchx.adapters.mongo_connection import MongoConnection
from orchx.errors import Bug, DriverError, OrchxError, Unavailable
from orchx.settings import KafkaSettings

POLL_WAIT_MS: Final = 200
PACE_S: Final = 0.05  # after a poll that brought something, unless somebody waits for more
SAVE_INTERVAL_S: Final = 1.0
RESTORE_PAGE: Final = 500
ARRIVALS_WAIT_S: Final = 1.0
RESTART_PAUSE_S: Final = 1.0
CATCH_UP_TIMEOUT_S: Final = 10.0
CLOSE_CATCH_UP_S: Final = 2.0

logger = structlog.get_logger(__name__)


class CommandFeed:
    """Reads partitions of the topic into a window, from what is acknowledged on.

    Every `SAVE_INTERVAL_S` what is acknowledged is stored: what was later comes again after a
    crash. What the topic has forgotten without its having been acknowledged, the index has.
    """

    def __init__(
        self,
        settings: KafkaSettings,
        connection: MongoConnection,
        ends: CoalescedQuery[dict[int, int]],
        window: CommandWindow | None = None,
    ) -> None:
        """Start nothing yet.

        Args:
            settings: where Kafka is.
            connection: to the database with the index, and with what is acknowledged.
            ends: asks for the topic's end offsets.
            window: what is filled; one with the usual bounds if absent.
        """
        self.window = CommandWindow() if window is None else window
        self._topic = Topics(settings.topic_prefix).commands
        self._reader = KafkaCommandReader(settings, self._topic, "command-window")
        self._progress_store = MongoCommandProgress(connection)
        self._index = MongoCommandIndex(connection)
        self._ends = ends
        self._task: asyncio.Task[None] | None = None
        self._closing = False
        self._progress = asyncio.Event()
        self._hurried = asyncio.Event()  # set while somebody waits until all is read
        self._catching_up = 0
        self._failure: OrchxError | None = None
        self._missed = 0
        self._saved: dict[int, int] = {}  # of each partition, as of which of its changes
        self._saved_at_s = -SAVE_INTERVAL_S
        self._between_polls = asyncio.Lock()
        self._reassigned = False

    async def hold(self, partitions: Collection[int]) -> None:
        """Read these partitions, and no others.

        Raises:
            DriverError, Unavailable: what is new could not be taken on, or what is acknowledged
                of what is given up could not be stored; the latter is given up all the same.
        """
        async with self._between_polls:
            held = self.window.next_offsets().keys()
            left, new = held - set(partitions), sorted(set(partitions) - held)
            try:
                if left:
                    await self._save(left)
            finally:
                self.window.revoke(sorted(left))
                self._reassigned = True
            if new:
                await self._take_over(new)
        self._signal()

    async def _take_over(self, partitions: Sequence[int]) -> None:
        known = await self._progress_store.take_over(partitions)
        ends, beginnings = await self._ends.get(), await self._reader.beginnings()
        for partition, one in known.items():
            if one.watermark > ends.get(partition, 0):  # the topic was made anew
                logger.error("acknowledged beyond the end", topic=self._topic, partition=partition)
                known = {**known, partition: Acknowledged()}
        self.window.assign(known)
        try:
            for partition, one in known.items():
                await self._restore(partition, one.watermark, beginnings.get(partition, 0))
        except BaseException:
            self.window.revoke(partitions)
            raise

    async def _restore(self, partition: int, first: int, behind: int) -> None:
        """Have from the index what is not acknowledged and not on the topic any more."""
        while first < behind:
            page = await self._index.between(partition, first, behind, limit=RESTORE_PAGE)
            first = page[-1][0] + 1 if len(page) == RESTORE_PAGE else behind
            restored = self.window.restore(partition, self._decoded(partition, page), first)
            if restored:
                logger.warning("commands outlived the topic", topic=self._topic, count=restored)

    def _decoded(
        self, partition: int, page: Sequence[tuple[int, bytes]]
    ) -> Iterator[ReceivedCommand]:
        """Yield what this release can read; the index keeps the others."""
        for offset, payload in page:
            try:
                command = decode_command(payload)
            except DriverError as error:
                where = {"partition": partition, "offset": offset, "reason": str(error)}
                logger.error("not a command, skipped", topic=self._topic, **where)
                continue
            yield ReceivedCommand(
                partition=partition, offset=offset, timestamp_ms=0, payload=payload, command=command
            )

    async def arrived(self, after_position: int) -> None:
        """Return once something is in the window behind a position, or after a while."""
        self.start()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(ARRIVALS_WAIT_S):
                while self.window.last_position <= after_position:
                    await self._progress.wait()

    async def catch_up(self) -> dict[int, int]:
        """Wait until all that was on the topic when this was called is in the window.

        A full window is as far as it gets. Returns the ends that were to be reached.

        Raises:
            DriverError: Kafka is out of reach.
            Unavailable: reading stands still.
        """
        self.start()
        ends = await self._ends.get()
        self._catching_up += 1
        self._hurried.set()
        try:
            async with asyncio.timeout(CATCH_UP_TIMEOUT_S) as patience:
                left = self.window.unread(ends)
                while left and not self.window.full:
                    self._raise_failure()
                    await self._progress.wait()
                    before, left = left, self.window.unread(ends)
                    if left < before:  # a long topic takes its time
                        patience.reschedule(asyncio.get_running_loop().time() + CATCH_UP_TIMEOUT_S)
        except TimeoutError as error:
            raise Unavailable(
                f"nothing of {self._topic} was read for {CATCH_UP_TIMEOUT_S:g} s; are the brokers "
                "of ORCHX_KAFKA__BOOTSTRAP_SERVERS up?"
            ) from error
        finally:
            self._catching_up -= 1
            if not self._catching_up:
                self._hurried.clear()
        return ends

    def start(self) -> None:
        """Begin to read, unless that has begun."""
        if self._task is None and not self._closing:
            self._task = asyncio.create_task(self._run(), name="command-feed")

    async def close(self) -> None:
        """Stop reading, store what is acknowledged and let go of the connections."""
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
            await self._save_or_warn()
        await self._reader.close()

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
        convert = partial(receive, partitions=len(await self._reader.partitions()))
        self._reassigned, held = True, False
        while not self._closing:
            pause = False
            async with self._between_polls:
                if self._reassigned:
                    await self._reader.follow(self.window.next_offsets())
                    self._reassigned, held = False, False
                if held != self.window.full:
                    held = not held
                    await self._reader.hold(held)
                if self.window.next_offsets():
                    batch = await self._reader.poll(convert, POLL_WAIT_MS)
                    self.window.take(batch.items, batch.next_offsets)
                    self._failure = None
                    self._report(batch.items)
                    pause = 0 < len(batch.items) < POLL_RECORDS_MAX
            self._signal()
            if time.monotonic() - self._saved_at_s >= SAVE_INTERVAL_S:
                await self._save_or_warn()
            if not self.window.next_offsets():
                await _wait(self._progress, POLL_WAIT_MS / 1000)
            elif pause:
                await _wait(self._hurried, PACE_S)

    def _report(self, received: Sequence[Received]) -> None:
        """Log what was left out; the indexer keeps copies of what is poisoned."""
        for one in received:
            if isinstance(one, PoisonedRecord):
                logger.error("not a command, skipped", topic=self._topic, **one.where())
        if self.window.missed > self._missed:
            logger.error(
                "records expired before they were read",
                topic=self._topic,
                count=self.window.missed - self._missed,
            )
            self._missed = self.window.missed

    async def store(self) -> None:
        """Store what is acknowledged, now.

        Raises:
            Unavailable, DriverError: it was not stored.
        """
        async with self._between_polls:
            await self._save(self.window.next_offsets())

    async def _save_or_warn(self) -> None:
        """Store what is acknowledged. If it fails, the next time does it."""
        self._saved_at_s = time.monotonic()
        try:
            await self.store()
        except OrchxError as error:
            logger.warning("acknowledgements not stored", error=str(error))

    async def _save(self, partitions: Collection[int]) -> None:
        changes = self.window.changes()
        changed = [number for number in partitions if self._saved.get(number) != changes[number]]
        await self._progress_store.save({n: self.window.acknowledged(n) for n in changed})
        self._saved.update((number, changes[number]) for number in changed)

    def _signal(self) -> None:
        """Have those who wait look again."""
        self._progress.set()
        self._progress = asyncio.Event()


async def _wait(event: asyncio.Event, timeout_s: float) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(timeout_s):
            await event.wait()
