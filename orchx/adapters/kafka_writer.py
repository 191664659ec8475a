"""Writing to Kafka from asyncio: durable on return, and bounded in bytes and in time."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final, TypeAlias

from kafka import KafkaProducer, errors

from orchx.adapters.kafka_connection import DRIVER_ERRORS, open_client, translated
from orchx.adapters.kafka_topics import MESSAGE_BYTES_MAX
from orchx.errors import DriverError, OrchxError, Unavailable
from orchx.settings import KafkaSettings

BATCH_BYTES: Final = 1_048_576  # what waits for a partition goes in one request
DELIVERY_PER_REQUEST: Final = 2  # a lost request is sent once more
MARGIN_S: Final = 2.0  # kafka-python may notice late, or never, that its time is up
CLOSE_S: Final = 5.0
LINGER_S: Final = 0.005  # under load, for others to go with it: fewer, larger requests cost less
BUSY_PER_S: Final = 400  # calls, beyond which it is under load: one workflow alone makes 300
COUNT_S: Final = 0.1
METADATA_POLL_S: Final = 0.02


@dataclass(frozen=True, slots=True, kw_only=True)
class Outgoing:
    """One Kafka record to be written; a `value` of None deletes the key of a compacted topic."""

    topic: str
    partition: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes]] = ()

    @property
    def size(self) -> int:
        """What it holds, in bytes."""
        return len(self.key or b"") + len(self.value or b"") + sum(len(v) for _, v in self.headers)


Landed: TypeAlias = Callable[[int, int], None]
"""Hears, in the event loop, of each record that is durable: its place in the call, its offset."""


@dataclass(slots=True, eq=False)
class _Generation:
    """A producer, for as long as it works: one that lost a record is replaced."""

    producer: KafkaProducer
    topics: set[str] = field(default_factory=set)
    in_flight: int = 0
    retired: bool = False
    idle: asyncio.Event = field(default_factory=asyncio.Event)


@dataclass(slots=True, eq=False)
class _Ticket:
    """One call of `send`."""

    generation: _Generation
    future: asyncio.Future[list[int]]
    offsets: list[int]
    left: int
    size: int
    landed: Landed | None
    error: Exception | None = None


class KafkaWriter:
    """One idempotent producer with `acks=all`. For the tasks of one event loop.

    Concurrent calls share requests, and a partition's records keep the order of the calls. Where
    many come, they wait `LINGER_S` for each other.
    A record that failed is never sent again by itself: whether it stands in the topic is
    unknown, so its source must decide what to send. The producer is replaced then, for its
    sequence numbers have a gap; what else it had under way may still arrive.
    """

    def __init__(
        self, settings: KafkaSettings, name: str, *, busy_per_s: float = BUSY_PER_S
    ) -> None:
        """Connect on first use.

        Args:
            settings: where Kafka is.
            name: the role to be found in the broker's logs.
            busy_per_s: how many calls a second make it worth while to wait for more.
        """
        self._busy_per_s = busy_per_s
        self._settings = settings
        self._name = name
        self._generation: _Generation | None = None
        self._opening: asyncio.Task[_Generation] | None = None
        self._retiring: set[asyncio.Task[None]] = set()
        self._bytes_in_flight = 0
        self._waiting: list[tuple[_Ticket, Sequence[Outgoing]]] = []
        self._lingering: asyncio.TimerHandle | None = None
        self._counted = 0
        self._counted_since_s = 0.0
        self._rate_per_s = 0.0
        self._arrivals: deque[tuple[_Ticket, int, Any]] = deque()
        self._signalled = False
        self._closed = False
        self._delivery_ms = DELIVERY_PER_REQUEST * settings.request_timeout_ms

    @property
    def bytes_in_flight(self) -> int:
        """What was handed over and is not yet known to be durable."""
        return self._bytes_in_flight

    async def send(
        self, records: Sequence[Outgoing], landed: Landed | None = None
    ) -> Sequence[int]:
        """Write; return each record's Kafka offset once all of them are durable.

        `landed` hears of one after the other, those of a partition in the order of the topic,
        and whatever becomes of the others or of the caller.

        Raises:
            Unavailable: too much is in flight already; nothing was written.
            DriverError: some were perhaps not written, or not in time.
        """
        if self._closed:
            raise DriverError(f"the Kafka writer {self._name} is closed")
        if not records:
            return []
        size = sum(record.size for record in records)
        limit = self._settings.in_flight_bytes
        if self._bytes_in_flight and self._bytes_in_flight + size > limit:
            raise Unavailable(
                f"Kafka is slow to take records: {limit} bytes wait already "
                "(ORCHX_KAFKA__IN_FLIGHT_BYTES)"
            )
        self._bytes_in_flight += size
        try:
            generation = await self._generation_for({record.topic for record in records})
            ticket = self._hand_over(generation, records, size, landed)
        except BaseException:
            self._bytes_in_flight -= size
            raise
        return await self._durable(ticket, records[0].topic)

    async def close(self) -> None:
        """Wait for what is under way, for a bounded time, and end the producer."""
        self._closed = True
        self._produce()
        if self._opening is not None:
            with contextlib.suppress(OrchxError):
                await asyncio.shield(self._opening)
        if self._generation is not None:
            self._retire(self._generation)
        if self._retiring:
            await asyncio.wait(self._retiring)

    def _hand_over(
        self,
        generation: _Generation,
        records: Sequence[Outgoing],
        size: int,
        landed: Landed | None,
    ) -> _Ticket:
        future: asyncio.Future[list[int]] = asyncio.get_running_loop().create_future()
        ticket = _Ticket(generation, future, [-1] * len(records), len(records), size, landed)
        generation.in_flight += 1
        generation.idle.clear()
        self._waiting.append((ticket, records))
        if not self._is_busy():
            self._produce()
        elif self._lingering is None:
            self._lingering = asyncio.get_running_loop().call_later(LINGER_S, self._produce)
        return ticket

    def _is_busy(self) -> bool:
        """Count calls; tell whether so many came lately that waiting for more pays."""
        now_s = asyncio.get_running_loop().time()
        elapsed_s = now_s - self._counted_since_s
        if elapsed_s >= COUNT_S:
            self._rate_per_s = self._counted / elapsed_s
            self._counted, self._counted_since_s = 0, now_s
        self._counted += 1
        return self._rate_per_s > self._busy_per_s

    def _produce(self) -> None:
        """Give the producer all that waits."""
        if self._lingering is not None:
            self._lingering.cancel()
            self._lingering = None
        waiting, self._waiting = self._waiting, []
        for ticket, records in waiting:
            for place, record in enumerate(records):
                arrived = partial(self._arrived, ticket, place)
                if ticket.generation.retired and not self._closed:
                    arrived(errors.KafkaConnectionError("the producer was replaced meanwhile"))
                    continue
                try:
                    sent = ticket.generation.producer.send(
                        record.topic,
                        value=record.value,
                        key=record.key,
                        headers=list(record.headers),
                        partition=record.partition,
                    )
                except Exception as error:  # it never left: whoever waits for it hears of it
                    arrived(error)
                else:
                    sent.add_callback(arrived)
                    sent.add_errback(arrived)

    async def _durable(self, ticket: _Ticket, topic: str) -> Sequence[int]:
        doing = f"write to {topic}"
        try:
            async with asyncio.timeout(self._delivery_ms / 1000 + MARGIN_S):
                return await ticket.future
        except TimeoutError as late:
            self._retire(ticket.generation)
            error = errors.KafkaTimeoutError(f"not durable after {self._delivery_ms} ms")
            raise translated(error, self._settings, doing) from late
        except DRIVER_ERRORS as error:
            raise translated(error, self._settings, doing) from error

    def _arrived(self, ticket: _Ticket, place: int, outcome: Any) -> None:
        """Note one record's fate; called by the producer's thread, once per record."""
        self._arrivals.append((ticket, place, outcome))
        if not self._signalled:
            self._signalled = True
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits there
                ticket.future.get_loop().call_soon_threadsafe(self._settle)

    def _settle(self) -> None:
        # Cleared before the queue is read: whoever comes later signals again.
        self._signalled = False
        while self._arrivals:
            ticket, place, outcome = self._arrivals.popleft()
            if isinstance(outcome, Exception):
                ticket.error = ticket.error or outcome
            elif outcome.offset < 0:
                ticket.error = ticket.error or errors.DuplicateSequenceNumberError(
                    "the broker has the record, and does not know its offset any more"
                )
            else:
                ticket.offsets[place] = outcome.offset
                if ticket.landed is not None:
                    ticket.landed(place, outcome.offset)
            ticket.left -= 1
            if ticket.left == 0:
                self._finish(ticket)

    def _finish(self, ticket: _Ticket) -> None:
        generation = ticket.generation
        self._bytes_in_flight -= ticket.size
        generation.in_flight -= 1
        if generation.in_flight == 0:
            generation.idle.set()
        if ticket.error is not None:
            self._retire(generation)
        if ticket.future.done():  # the caller was cancelled; what was written stays
            return
        if ticket.error is None:
            ticket.future.set_result(ticket.offsets)
        else:
            ticket.future.set_exception(ticket.error)

    async def _generation_for(self, topics: set[str]) -> _Generation:
        """Return the producer, once it is connected and knows these topics."""
        while True:
            generation = self._generation
            if generation is not None and topics <= generation.topics:
                return generation
            if self._opening is None:
                self._opening = asyncio.create_task(self._open(generation, topics))
            opening = self._opening
            try:
                await asyncio.shield(opening)
            except OrchxError as error:
                # One exception object each: being raised changes it.
                raise type(error)(*error.args) from error.__cause__

    async def _open(self, generation: _Generation | None, topics: set[str]) -> _Generation:
        try:
            if generation is None:
                producer = await asyncio.to_thread(self._connect)
                generation = _Generation(producer)
                generation.idle.set()
                self._generation = generation
            await asyncio.to_thread(self._learn, generation.producer, topics)
            generation.topics |= topics
        finally:
            self._opening = None
        return generation

    def _connect(self) -> KafkaProducer:
        return open_client(
            KafkaProducer,
            self._settings,
            self._name,
            acks="all",
            enable_idempotence=True,
            delivery_timeout_ms=self._delivery_ms,
            batch_size=BATCH_BYTES,
            max_request_size=MESSAGE_BYTES_MAX,
            max_block_ms=0,  # never hold up the event loop
            allow_auto_create_topics=False,
            metrics_enabled=False,
        )

    def _learn(self, producer: KafkaProducer, topics: set[str]) -> None:
        """Wait until the producer knows where the topics' partitions are; in a thread."""
        deadline = time.monotonic() + self._settings.request_timeout_ms / 1000
        for topic in topics:
            while True:
                try:
                    producer.partitions_for(topic)
                    break
                except errors.KafkaTimeoutError as error:
                    if time.monotonic() > deadline:
                        unknown = errors.UnknownTopicOrPartitionError(topic)
                        doing = f"find the topic {topic}"
                        raise translated(unknown, self._settings, doing) from error
                except DRIVER_ERRORS as error:
                    raise translated(error, self._settings, f"find the topic {topic}") from error
                time.sleep(METADATA_POLL_S)

    def _retire(self, generation: _Generation) -> None:
        """Give the producer no more work, and end it once it has done what it has."""
        if self._generation is generation:
            self._generation = None
        if not generation.retired:
            generation.retired = True
            task = asyncio.get_running_loop().create_task(self._end(generation))
            self._retiring.add(task)
            task.add_done_callback(self._retiring.discard)

    async def _end(self, generation: _Generation) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._delivery_ms / 1000 + MARGIN_S):
                await generation.idle.wait()
        stuck = generation.in_flight > 0
        await asyncio.to_thread(_shut, generation.producer, stuck=stuck)


def _shut(producer: KafkaProducer, *, stuck: bool) -> None:
    # `close` raises while anything is in flight, before it has ended the thread: there is no
    # public way to end a producer that is stuck (kafka-python 3.0.12).
    if stuck:
        sender = producer._sender  # type: ignore[attr-defined]
        sender.force_close()
        sender.join(CLOSE_S)
    with contextlib.suppress(errors.KafkaError):
        producer.close(timeout=CLOSE_S)
