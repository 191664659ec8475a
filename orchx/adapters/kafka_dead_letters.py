"""Records that could not be read, kept aside on a topic of their own, and sent back on demand."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import structlog
from kafka.consumer.fetcher import ConsumerRecord

from orchx.adapters.kafka_command_reader import KafkaCommandReader
from orchx.adapters.kafka_connection import Topics
from orchx.adapters.kafka_topics import MESSAGE_BYTES_MAX
from orchx.adapters.kafka_writer import KafkaWriter, Outgoing
from orchx.errors import Conflict, DriverError, OrchxError
from orchx.settings import KafkaSettings

VALUE_BYTES_MAX: Final = MESSAGE_BYTES_MAX - 1_048_576  # leaves room for key and headers
ERROR_BYTES_MAX: Final = 2_000
LIST_MAX: Final = 1_000
LIST_BYTES_MAX: Final = 32 * 1_048_576
LIST_WAIT_MS: Final = 500
EMPTY_POLLS_MAX: Final = 20

logger = structlog.get_logger(__name__)

_TOPIC: Final = "orchx-topic"
_PARTITION: Final = "orchx-partition"
_OFFSET: Final = "orchx-offset"
_ERROR: Final = "orchx-error"
_CUT: Final = "orchx-cut"


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetter:
    """A record that was kept aside.

    `number` is its place among the dead letters, `kept_at_ms` when it was put there; `topic`,
    `partition` and `offset` say where it stood, `error` what was wrong. `cut`: it was too large
    to be kept whole.
    """

    number: int
    kept_at_ms: int
    topic: str
    partition: int
    offset: int
    error: str
    key: bytes | None
    value: bytes | None
    cut: bool


class KafkaDeadLetters:
    """The dead-letter topic. The same record may stand there twice after a crash."""

    def __init__(self, settings: KafkaSettings) -> None:
        """Connect on first use."""
        self._settings = settings
        self._topic = Topics(settings.topic_prefix).dead_letters
        self._writer = KafkaWriter(settings, "dead-letters")
        self._tasks: set[asyncio.Task[None]] = set()

    async def keep(self, record: ConsumerRecord, error: str) -> None:
        """Copy a record, with where it stood and what is wrong with it.

        Raises:
            Unavailable, DriverError: Kafka did not take the copy, or perhaps not.
        """
        value = record.value
        cut = value is not None and len(value) > VALUE_BYTES_MAX
        headers = [
            (_TOPIC, record.topic.encode()),
            (_PARTITION, str(record.partition).encode()),
            (_OFFSET, str(record.offset).encode()),
            (_ERROR, error.encode(errors="replace")[:ERROR_BYTES_MAX]),
        ]
        if cut:
            headers.append((_CUT, str(len(value)).encode()))
        copy = Outgoing(
            topic=self._topic,
            partition=0,
            key=record.key,
            value=value[:VALUE_BYTES_MAX] if cut else value,
            headers=headers,
        )
        await self._writer.send([copy])

    def keep_soon(self, record: ConsumerRecord, error: str) -> None:
        """Copy a record beside what the event loop does; a failure is logged."""
        task = asyncio.get_running_loop().create_task(self._kept(record, error))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _kept(self, record: ConsumerRecord, error: str) -> None:
        try:
            await self.keep(record, error)
        except OrchxError as failure:
            place = f"{record.topic}/{record.partition} at {record.offset}"
            logger.error("dead letter not kept", place=place, error=str(failure))

    async def latest(self, limit: int = LIST_MAX) -> Sequence[DeadLetter]:
        """Return the latest ones, oldest first.

        Args:
            limit: at most `LIST_MAX` count; pages are bounded in bytes too.

        Raises:
            DriverError: Kafka is out of reach.
        """
        reader = KafkaCommandReader(self._settings, self._topic, "dead-letters-list")
        try:
            end = (await reader.ends())[0]
            start = max(0, end - min(limit, LIST_MAX))
            return await _read(reader, start, end)
        finally:
            await reader.close()

    async def replay(self, letters: Sequence[DeadLetter]) -> int:
        """Send records back to where they stood, to be read once more; return how many.

        What cannot be read this time either is kept aside anew.

        Raises:
            Conflict: one of them is not whole; nothing was sent.
            Unavailable, DriverError: some were perhaps not sent.
        """
        for letter in letters:
            if letter.cut:
                raise Conflict(f"dead letter {letter.number} was too large to be kept whole")
        await self._writer.send(
            [
                Outgoing(
                    topic=letter.topic,
                    partition=letter.partition,
                    key=letter.key,
                    value=letter.value,
                )
                for letter in letters
            ]
        )
        return len(letters)

    async def close(self) -> None:
        """Let go of the connections."""
        await self._writer.close()


async def _read(reader: KafkaCommandReader, start: int, end: int) -> Sequence[DeadLetter]:
    """Return what stands between two offsets, as far as it is still there."""
    letters: list[DeadLetter] = []
    offset, size, empty = start, 0, 0
    await reader.follow({0: start})
    while offset < end and size < LIST_BYTES_MAX:
        batch = await reader.poll(_letter, LIST_WAIT_MS)
        letters += [letter for letter in batch.items if letter.number < end]
        size += sum(len(letter.value or b"") for letter in batch.items)
        empty = 0 if batch.items else empty + 1
        if empty > EMPTY_POLLS_MAX:
            raise DriverError(f"the dead letters up to number {end - 1} could not be read")
        offset = batch.next_offsets.get(0, offset)
    return letters


def _letter(record: ConsumerRecord) -> DeadLetter:
    headers: Mapping[str, bytes] = dict(record.headers)
    return DeadLetter(
        number=record.offset,
        kept_at_ms=record.timestamp,
        topic=headers.get(_TOPIC, b"").decode(errors="replace"),
        partition=_number(headers.get(_PARTITION)),
        offset=_number(headers.get(_OFFSET)),
        error=headers.get(_ERROR, b"").decode(errors="replace"),
        key=record.key,
        value=record.value,
        cut=_CUT in headers,
    )


def _number(text: bytes | None) -> int:
    """Return a header's number; -1 where a stranger has left something else."""
    return int(text) if text is not None and text.isdigit() else -1
