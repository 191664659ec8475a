"""A thread that reads the event log's topic and hands what it finds to the event loop."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

import structlog
from kafka import KafkaConsumer, TopicPartition
from kafka.consumer.fetcher import ConsumerRecord

from orchx.adapters.kafka_connection import DRIVER_ERRORS, open_client, translated
from orchx.errors import Bug, OrchxError
from orchx.settings import KafkaSettings

POLL_MS: Final = 200  # how late a change of plan is noticed while nothing comes in
PACE_S: Final = 0.02  # between polls while nobody waits: fewer, larger ones cost less
KNOWN_PACE_S: Final = 0.25  # the same while what comes is known from elsewhere
ASLEEP_S: Final = 60.0  # between looks at a reader of which nobody wants anything
RECORDS_PER_POLL: Final = 1_000
FETCH_BYTES: Final = 16 * 1_048_576
PARTITION_FETCH_BYTES: Final = 4 * 1_048_576
BACKLOG_BYTES_MAX: Final = 32 * 1_048_576  # handed over, and not yet taken by the loop
REOPEN_S: Final = 1.0
CLOSE_S: Final = 3.0

logger = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Batch:
    """What was read of one partition, up to Kafka's offset `following`.

    `stand` is that of the seek it belongs to: one with an old stand was overtaken by a seek.
    """

    partition: int
    messages: Sequence[ConsumerRecord]
    following: int
    stand: int


class Receiver(Protocol):
    """Who takes what is read, in the event loop."""

    def receive(self, batches: Sequence[Batch]) -> None:
        """Take the next batches; more are read only as they are taken."""
        ...

    def failed(self, error: OrchxError) -> None:
        """Hear that reading has failed; it goes on by itself as soon as it can."""
        ...


class KafkaLogReader:
    """Reads partitions of one topic from given offsets on, all assigned by hand.

    Only its own thread touches the consumer. Methods are for the event loop's thread, and
    take effect at the thread's next turn.
    """

    def __init__(
        self,
        settings: KafkaSettings,
        topic: str,
        role: str,
        receiver: Receiver,
        *,
        pace_s: float = PACE_S,
    ) -> None:
        """Read nothing yet.

        Args:
            settings: where Kafka is.
            topic: what is read.
            role: is to be found in the broker's logs.
            receiver: who gets it.
            pace_s: between polls while nobody waits, if nobody says `go_on`.
        """
        self._pace_s = pace_s
        self._settings = settings
        self._topic = topic
        self._role = role
        self._receiver = receiver
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._next: dict[int, int] = {}  # Kafka offset to be read next; the thread's own
        self._stands: dict[int, int] = {}
        self._paused: set[int] = set()
        self._changes: deque[Callable[[KafkaConsumer], None]] = deque()
        self._nudge = threading.Event()
        self._handed_bytes = 0  # by the thread
        self._taken_bytes = 0  # by the loop
        self._failing = False
        self._stopping = False
        self.urgent = False
        """Whether somebody waits for what is read: it is then read at once."""
        self.known: Mapping[int, int] | None = None
        """Up to where each partition is known without being read, if that is so just now.

        It is then read rarely, from there on. The loop may change what is in it at any time.
        """

    def start(self, offsets: Mapping[int, int], *, paused: Sequence[int] = ()) -> None:
        """Start to read each partition from its offset on; those `paused` later."""
        self._loop = asyncio.get_running_loop()
        self._next = dict(offsets)
        self._stands = dict.fromkeys(offsets, 0)
        self._paused = set(paused)
        # A daemon, so that a process whose owner forgot to close can still end.
        name = f"kafka-{self._role}"
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def hurry(self, urgent: bool) -> None:
        """Say whether somebody waits."""
        self.urgent = urgent
        if urgent:
            self._nudge.set()

    def go_on(self) -> None:
        """Read what there is by now, and do not wait until the pause is over."""
        self._nudge.set()

    def seek(self, partition: int, offset: int, stand: int) -> None:
        """Go on at another offset; batches with an older `stand` are to be thrown away."""

        def change(consumer: KafkaConsumer) -> None:
            self._next[partition] = offset
            self._stands[partition] = stand
            consumer.seek(TopicPartition(self._topic, partition), offset)

        self._change(change)

    def pause(self, partitions: Sequence[int], *, paused: bool) -> None:
        """Read no more from these partitions, or again."""
        places = [TopicPartition(self._topic, partition) for partition in partitions]

        def change(consumer: KafkaConsumer) -> None:
            if paused:
                self._paused.update(partitions)
                consumer.pause(*places)
            else:
                self._paused.difference_update(partitions)
                consumer.resume(*places)

        self._change(change)

    async def close(self) -> None:
        """End the thread."""
        self._stopping = True
        self._nudge.set()
        if self._thread is not None:
            await asyncio.to_thread(self._thread.join, CLOSE_S)

    def _change(self, change: Callable[[KafkaConsumer], None]) -> None:
        self._changes.append(change)
        self._nudge.set()

    def _run(self) -> None:
        while not self._stopping:
            try:
                self._read()
            except OrchxError as error:
                self._failed(error)
            except DRIVER_ERRORS as error:
                failure = translated(error, self._settings, f"read {self._topic}")
                failure.__cause__ = error
                self._failed(failure)
            except Exception as error:  # the thread's edge: waiters hear of it, it goes on
                logger.exception("reading failed", role=self._role)
                self._failed(Bug(f"{self._role}: {type(error).__name__}: {error}"))
            if not self._stopping:
                self._nudge.wait(REOPEN_S)
                self._nudge.clear()

    def _failed(self, error: OrchxError) -> None:
        if self._stopping:
            return
        if not self._failing:
            logger.warning("reading fails, and is tried again", error=str(error))
        self._failing = True
        self._post(self._receiver.failed, error)

    def _read(self) -> None:
        consumer = open_client(
            KafkaConsumer,
            self._settings,
            self._role,
            auto_offset_reset="none",  # what is gone must be heard of, never skipped
            enable_auto_commit=False,
            allow_auto_create_topics=False,
            max_poll_records=RECORDS_PER_POLL,
            fetch_max_bytes=FETCH_BYTES,
            max_partition_fetch_bytes=PARTITION_FETCH_BYTES,
            metrics_enabled=False,
        )
        try:
            places = [TopicPartition(self._topic, partition) for partition in self._next]
            consumer.assign(places)
            for place in places:
                consumer.seek(place, self._next[place.partition])
            consumer.pause(*(place for place in places if place.partition in self._paused))
            while not self._stopping:
                self._nudge.clear()
                # Asked first: what the receiver wished for as it took is among the changes then.
                behind = self._handed_bytes - self._taken_bytes > BACKLOG_BYTES_MAX
                while self._changes:
                    self._changes.popleft()(consumer)
                if self._next.keys() <= self._paused:
                    self._nudge.wait(ASLEEP_S)
                    continue
                if behind:
                    self._nudge.wait(PACE_S)
                    continue
                self._poll(consumer)
        finally:
            with contextlib.suppress(*DRIVER_ERRORS):
                consumer.close(autocommit=False, timeout_ms=CLOSE_S * 1000)

    def _poll(self, consumer: KafkaConsumer) -> None:
        if self.known is not None and not self.urgent:
            self._pass_over(consumer, self.known)
        _unpark(consumer)
        polled = consumer.poll(timeout_ms=POLL_MS)
        self._failing = False
        batches = []
        size = 0
        for place, messages in polled.items():
            size += sum(message.serialized_value_size for message in messages)
            batches.append(self._batch(place.partition, messages, messages[-1].offset + 1))
        if not polled:
            # Markers of other people's transactions take offsets too, and are never shown.
            for place in consumer.assignment():
                position = consumer.position(place, timeout_ms=POLL_MS)
                if position is not None and position > self._next[place.partition]:
                    batches.append(self._batch(place.partition, [], position))
        if batches:
            self._handed_bytes += size
            self._post(self._hand_over, batches, size)
            full = sum(map(len, polled.values())) >= RECORDS_PER_POLL
            if not self.urgent and not full:
                self._nudge.wait(self._pace_s if self.known is None else KNOWN_PACE_S)

    def _pass_over(self, consumer: KafkaConsumer, known: Mapping[int, int]) -> None:
        for partition, offset in self._next.items():
            place = known.get(partition, 0)
            if place > offset and partition not in self._paused:
                self._next[partition] = place
                consumer.seek(TopicPartition(self._topic, partition), place)

    def _batch(self, partition: int, messages: Sequence[ConsumerRecord], following: int) -> Batch:
        self._next[partition] = following
        return Batch(partition, messages, following, self._stands[partition])

    def _post(self, call: Callable[..., None], *arguments: Any) -> None:
        assert self._loop is not None  # noqa: S101  for the type checker: start() sets it
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits there
            self._loop.call_soon_threadsafe(call, *arguments)

    def _hand_over(self, batches: Sequence[Batch], size: int) -> None:
        try:
            if not self._stopping:
                self._receiver.receive(batches)
        finally:
            self._taken_bytes += size


def _unpark(consumer: KafkaConsumer) -> None:
    """Have the consumer go on with what it had fetched of a partition before it was paused.

    kafka-python (3.0.12) does so only while it has no other records at hand, and takes those that
    it has handed out to the last for some: such a partition was never read again.
    """
    fetcher = consumer._fetcher  # type: ignore[attr-defined]
    if not fetcher._next_partition_records:
        fetcher._next_partition_records = None
