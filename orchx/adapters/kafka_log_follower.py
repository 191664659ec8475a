"""Following the log: the window is kept in step with Kafka, and cut off behind the archive."""

from __future__ import annotations

import asyncio
import contextlib
import heapq
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from itertools import count
from typing import Final

import structlog

from orchx.adapters.kafka_connection import Topics
from orchx.adapters.kafka_end_offsets import EndOffsets
from orchx.adapters.kafka_log_reader import Batch, KafkaLogReader
from orchx.adapters.kafka_log_window import TURN_COST_BYTES, LogWindow
from orchx.adapters.kafka_records import (
    TURN_OFFSETS,
    EncodedTurn,
    PoisonedTurn,
    Turn,
    landed_turn,
    turn_of,
)
from orchx.errors import DriverError, OrchxError, StorageFull, TryLater, Unavailable
from orchx.ports.archive import Archive
from orchx.settings import KafkaSettings

REACH_S: Final = 10.0
TRIM_S: Final = 1.0
REST_S: Final = 5.0  # a partition that nobody has asked for so long is not read
RESUME_SHARE: Final = 0.8  # of the window, below which reading goes on
READ_S: Final = 1.0  # after somebody waited for what others wrote, everything is read for so long
OWN_BYTES_MAX: Final = 4 * 1_048_576  # written by this process behind what is still to be read

logger = structlog.get_logger(__name__)


class KafkaLogFollower:
    """Keeps the end of the log in memory, in every process that owns workflows.

    It starts on first use, where the archive ends; without an archive, at the beginning. A
    partition that nobody asks for is not read; when it is wanted again, what the archive has
    got meanwhile is passed over. So a process pays for what it needs, however many there are.

    What this process writes right behind what is in the window needs not be read either: its
    offset says that nothing stands between. As long as nobody waits for anything else, the
    log is only looked at now and then, for what others may have written.
    """

    def __init__(
        self,
        settings: KafkaSettings,
        ends: EndOffsets,
        archive: Archive | None = None,
        *,
        rest_s: float = REST_S,
    ) -> None:
        """Follow the log that `ends` knows the ends of, cutting off what `archive` has."""
        self.window = LogWindow()
        self._settings = settings
        self._ends = ends
        self._archive = archive
        self._rest_s = rest_s
        self._wanted_s: dict[int, float] = {}  # when each partition was last asked for
        self._resting: set[int] = set()
        # Written behind the window's end: of each partition, by offset.
        self._own: defaultdict[int, dict[int, Turn]] = defaultdict(dict)
        self._own_bytes = 0
        self._read_until_s = 0.0
        self._stands: dict[int, int] = {}  # counts the seeks of each partition
        topic = Topics(settings.topic_prefix).events
        self._reader = KafkaLogReader(settings, topic, "follower", self)
        self._positions: dict[int, int] = {}
        self._waiting: dict[int, list[tuple[int, int, asyncio.Future[None]]]] = {}
        self._order = count()
        self._starting: asyncio.Task[None] | None = None
        self._trimming: asyncio.Task[None] | None = None
        self._error: OrchxError | None = None
        self._full = False
        self._closed = False
        self.skipped = 0
        """How many Kafka records were no turns."""

    async def reach(self, targets: Mapping[int, int]) -> None:
        """Return once everything before these Kafka offsets, by partition, is in the window.

        Raises:
            Unavailable: that took too long, or the window is full.
            DriverError: Kafka, or the archive at the start, cannot be reached.
        """
        await self._started()
        loop = asyncio.get_running_loop()
        self._wanted_s.update(dict.fromkeys(targets, loop.time()))
        while asleep := self._resting.intersection(targets):
            await self._wake_up(asleep)
            self._wanted_s.update(dict.fromkeys(targets, loop.time()))
        ahead = [p for p, target in targets.items() if self._positions.get(p, 0) < target]
        if not ahead:
            return
        futures = []
        for partition in ahead:
            future: asyncio.Future[None] = loop.create_future()
            entry = (targets[partition], next(self._order), future)
            heapq.heappush(self._waiting.setdefault(partition, []), entry)
            futures.append(future)
        self._read_until_s = loop.time() + READ_S
        self._reader.known = None  # until nobody has waited for so long
        self._reader.hurry(urgent=True)
        try:
            async with asyncio.timeout(REACH_S):
                await asyncio.gather(*futures)
        except TimeoutError as late:
            raise Unavailable(self._why_late()) from (self._error or late)
        finally:
            if not all(future.done() and not future.cancelled() for future in futures):
                self._forget_given_up(ahead)

    def receive(self, batches: Sequence[Batch]) -> None:
        """Take what was read into the window, and wake those who wait for it."""
        self._error = None
        partitions = len(self._positions)
        for batch in batches:
            if batch.stand != self._stands[batch.partition]:
                continue  # read before a seek
            position = self._positions[batch.partition]
            for message in batch.messages:
                if message.offset < position:
                    continue  # this process wrote it
                self._forget_own(batch.partition, message.offset)
                try:
                    self.window.add(turn_of(message, partitions=partitions))
                except PoisonedTurn as error:
                    self.skipped += 1
                    place = f"{message.topic}/{message.partition} at {message.offset}"
                    logger.warning("record skipped", place=place, reason=str(error))
            self._advance(batch.partition, max(position, batch.following))
        self._mind_fullness()
        self._rest()
        now_s = asyncio.get_running_loop().time()
        if self._reader.urgent:
            self._read_until_s = now_s + READ_S
        elif now_s > self._read_until_s:
            self._reader.known = self._positions

    def wrote(self, turn: EncodedTurn, partition: int, offset: int) -> None:
        """Take a turn that this process wrote, once it is durable; not needed for what is read."""
        position = self._positions.get(partition)
        if position is None or offset < position or self._full or partition in self._resting:
            return
        try:
            landed = landed_turn(turn, partition=partition, offset=offset)
        except PoisonedTurn:
            return  # it is read, and skipped, as everywhere
        self._own[partition][offset] = landed
        self._own_bytes += len(landed.value) + TURN_COST_BYTES
        self._advance(partition, position)
        if self._own_bytes > OWN_BYTES_MAX:
            self._own.clear()
            self._own_bytes = 0
        self._mind_fullness()

    def _advance(self, partition: int, position: int) -> None:
        """Be at a position, or further: behind what this process wrote there."""
        while (turn := self._forget_own(partition, position)) is not None:
            self.window.add(turn)
            position += 1
        self._positions[partition] = position
        if self._wake(partition, position):
            self._reader.hurry(urgent=any(self._waiting.values()))

    def _forget_own(self, partition: int, offset: int) -> Turn | None:
        turn = self._own[partition].pop(offset, None)
        if turn is not None:
            self._own_bytes -= len(turn.value) + TURN_COST_BYTES
        return turn

    def _mind_fullness(self) -> None:
        if not self._full and self.window.bytes > self._settings.window_bytes:
            self._full = True
            logger.warning("reading pauses", reason=self._why_late())
            self._reader.pause(list(self._positions), paused=True)

    def failed(self, error: OrchxError) -> None:
        """Remember why nothing comes in, for those who wait in vain."""
        self._error = error

    async def trim(self) -> None:
        """Cut off what the archive has; go on reading if that makes room again."""
        if self._archive is None:
            return
        self.window.trim(await self._archive.offsets())
        if self._full and self.window.bytes < RESUME_SHARE * self._settings.window_bytes:
            self._full = False
            awake = [each for each in self._positions if each not in self._resting]
            self._reader.pause(awake, paused=False)

    async def close(self) -> None:
        """Stop following."""
        self._closed = True
        for task in (self._starting, self._trimming):
            if task is not None:
                task.cancel()
                await asyncio.wait([task])
        await self._reader.close()

    async def _started(self) -> None:
        if self._closed:
            raise DriverError("the log is closed")
        if self._positions:
            return
        if self._starting is None:
            self._starting = asyncio.create_task(self._start())
        try:
            await asyncio.shield(self._starting)
        except OrchxError as error:
            # One exception object each: being raised changes it.
            raise type(error)(*error.args) from error.__cause__

    async def _start(self) -> None:
        try:
            partitions = range(await self._ends.partitions())
            archived = {} if self._archive is None else await self._archive.offsets()
            offsets = {p: archived.get(p, 0) // TURN_OFFSETS for p in partitions}
            self.window.start(offsets)
            self._reader.start(offsets)
            self._positions = offsets
            self._stands = dict.fromkeys(offsets, 0)
            self._wanted_s = dict.fromkeys(offsets, asyncio.get_running_loop().time())
            if self._archive is not None:
                self._trimming = asyncio.create_task(self._keep_trimmed())
        finally:
            self._starting = None

    async def _keep_trimmed(self) -> None:
        failing = False
        while True:
            await asyncio.sleep(TRIM_S)
            if not self.window.bytes and not self._full:
                continue
            try:
                await self.trim()
                failing = False
            except OrchxError as error:
                if not failing:
                    logger.warning("the archive does not tell how far it is", error=str(error))
                failing = True

    def _rest(self) -> None:
        """Read no more of partitions that nobody has asked for lately."""
        if self._archive is None or self.window.is_held:
            return
        tired_s = asyncio.get_running_loop().time() - self._rest_s
        tired = [
            partition
            for partition, wanted_s in self._wanted_s.items()
            if wanted_s < tired_s
            and partition not in self._resting
            and not self._waiting.get(partition)
        ]
        if tired:
            self._resting.update(tired)
            self._reader.pause(tired, paused=True)

    async def _wake_up(self, partitions: Collection[int]) -> None:
        """Read partitions again, from where the archive ends now."""
        archived: Mapping[int, int] = {}
        if self._archive is not None:
            # Without it everything is read: nothing is passed over then.
            with contextlib.suppress(DriverError, StorageFull, TryLater):
                archived = await self._archive.offsets()
        for partition in partitions:
            if partition not in self._resting:
                continue  # somebody else was faster
            self._resting.discard(partition)
            offset = archived.get(partition, 0) // TURN_OFFSETS
            if offset > self._positions[partition]:
                self._stands[partition] += 1
                self.window.restart(partition, offset)
                for own in list(self._own[partition]):
                    self._forget_own(partition, own)
                self._advance(partition, offset)
                self._reader.seek(partition, offset, self._stands[partition])
            if not self._full:
                self._reader.pause([partition], paused=False)

    def _wake(self, partition: int, position: int) -> bool:
        """Wake who waits for no more than this position; return whether anybody did."""
        waiting = self._waiting.get(partition)
        woken = False
        while waiting and waiting[0][0] <= position:
            future = heapq.heappop(waiting)[-1]
            woken = True
            if not future.done():
                future.set_result(None)
        return woken

    def _forget_given_up(self, partitions: Sequence[int]) -> None:
        for partition in partitions:
            left = [entry for entry in self._waiting[partition] if not entry[-1].done()]
            heapq.heapify(left)
            self._waiting[partition] = left
        self._reader.hurry(urgent=any(self._waiting.values()))

    def _why_late(self) -> str:
        if self._full:
            return (
                f"the end of the log that is not archived is over {self._settings.window_bytes} "
                "bytes (ORCHX_KAFKA__WINDOW_BYTES): the state service lags or is down"
            )
        if self._error is not None:
            return f"the log cannot be followed: {self._error}"
        return (
            f"the log was not followed up to its end within {REACH_S:g} s: are the brokers of "
            "ORCHX_KAFKA__BOOTSTRAP_SERVERS up?"
        )
