"""Records that could not be read, kept aside on a topic of their own; see ADR 0019."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

import structlog
from kafka.consumer.fetcher import ConsumerRecord

from orchx.adapters.kafka_command_reader import KafkaCommandReader
from orchx.adapters.kafka_command_records import command_in
from orchx.adapters.kafka_connection import Topics
from orchx.adapters.kafka_dead_letter_records import (
    Copy,
    Note,
    Source,
    copy_of,
    note_of,
    read,
    source_of,
)
from orchx.adapters.kafka_writer import KafkaWriter
from orchx.domain.messages import AnyCommand
from orchx.errors import Conflict, DriverError, InvalidRequest, OrchxError, Unavailable
from orchx.ports.dead_letters import (
    PAGE_MAX,
    Contents,
    DeadLetter,
    DeadLetterPage,
    Handled,
    SourceRecord,
)
from orchx.settings import KafkaSettings

SCAN_MAX: Final = 20_000  # records of the topic's end that are looked at
FOUND_BYTES_MAX: Final = 32 * 1_048_576
KEEPING_MAX: Final = 100
SCAN_TIMEOUT_S: Final = 30.0
POLL_WAIT_MS: Final = 500
EMPTY_POLLS_MAX: Final = 20

logger = structlog.get_logger(__name__)


@dataclass(slots=True, kw_only=True)
class _Scan:
    """What a part of the topic says, by where the originals stood."""

    unread: int
    letters: dict[Source, DeadLetter] = field(default_factory=dict)
    contents: dict[int, Contents] = field(default_factory=dict)
    found_bytes: int = 0

    def take(self, item: Copy | Note) -> None:
        there = self.letters.get(item.source)
        if isinstance(item, Note):
            if there is not None:
                self.letters[item.source] = replace(there, handled=item.handled)
            return
        first = item.letter if there is None else replace(there, copies=there.copies + 1)
        self.letters[item.source] = first
        if item.contents is not None:
            size = len(item.contents.value or b"") + len(item.contents.key or b"")
            if self.contents and self.found_bytes + size > FOUND_BYTES_MAX:
                return
            self.found_bytes += size
            self.contents[item.letter.number] = item.contents


class KafkaDeadLetters:
    """A `DeadLetters` on a topic, where the notes of what became of them stand too.

    It is read from its end backwards as far as `SCAN_MAX` records, by each call anew: dead
    letters are few, and looked at by people.
    """

    def __init__(self, settings: KafkaSettings) -> None:
        """Connect on first use."""
        self._settings = settings
        self._topics = Topics(settings.topic_prefix)
        self._topic = self._topics.dead_letters
        self._writer = KafkaWriter(settings, "dead-letters")
        self._reader = KafkaCommandReader(settings, self._topic, "dead-letters-list")
        self._reading = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()

    async def keep(self, record: SourceRecord, error: str) -> None:
        """Copy a record, with where it stood and what is wrong with it.

        Raises:
            Unavailable, DriverError: Kafka did not take the copy, or perhaps not.
        """
        await self._writer.send([copy_of(record, error, self._topic)])

    def keep_soon(self, record: ConsumerRecord, error: str) -> None:
        """Copy a record beside what the event loop does; a failure is logged."""
        if len(self._tasks) >= KEEPING_MAX:
            self._not_kept(record, f"{KEEPING_MAX} others are being kept")
            return
        task = asyncio.get_running_loop().create_task(self._kept(record, error))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _kept(self, record: ConsumerRecord, error: str) -> None:
        try:
            await self.keep(source_of(record), error)
        except OrchxError as failure:
            self._not_kept(record, str(failure))

    def _not_kept(self, record: ConsumerRecord, why: str) -> None:
        place = f"{record.topic}/{record.partition} at {record.offset}"
        logger.error("dead letter not kept", place=place, error=why)

    async def list(self, *, handled: bool, after: int = -1, limit: int = 100) -> DeadLetterPage:
        """Return letters, oldest first; handled ones only if they are wanted."""
        scan = await self._scan()
        shown = [
            letter
            for letter in scan.letters.values()
            if letter.number > after and (handled or letter.handled is None)
        ]
        limit = min(max(limit, 1), PAGE_MAX)
        return DeadLetterPage(letters=shown[:limit], more=len(shown) > limit, unread=scan.unread)

    async def find(self, numbers: Collection[int]) -> Mapping[int, Contents]:
        """Return the letters among these numbers that are there."""
        wanted = frozenset(sorted(numbers)[:PAGE_MAX])
        scan = await self._scan(wanted)
        found: dict[int, Contents] = {}
        for letter in scan.letters.values():
            contents = scan.contents.get(letter.number)
            if contents is not None:
                found[letter.number] = replace(contents, letter=letter)
        return found

    def command_of(self, contents: Contents, value: bytes | None = None) -> AnyCommand:
        """Return the command that a letter holds, or `value` in its place."""
        letter = contents.letter
        if letter.kind != "command":
            raise Conflict(_NO_COMMAND[letter.kind])
        if value is None and "value" in contents.cut:
            raise Conflict("it was too large to be kept whole: give the command in its place")
        try:
            return command_in(contents.value if value is None else value)
        except DriverError as error:
            raise InvalidRequest(f"it is no command of this release: {error}") from error

    async def mark(self, letters: Sequence[DeadLetter], handled: Handled) -> None:
        """Note what became of letters; on return that is durable."""
        await self._writer.send([note_of(letter, handled, self._topic) for letter in letters])

    async def close(self) -> None:
        """Finish what is being kept, and let go of the connections."""
        if self._tasks:
            await asyncio.wait(self._tasks)
        await self._reader.close()
        await self._writer.close()

    async def _scan(self, wanted: Collection[int] = ()) -> _Scan:
        """Read the topic's end, as of now.

        Raises:
            DriverError: Kafka is out of reach.
            Unavailable: it takes too long.
        """
        async with self._reading:
            end = (await self._reader.ends())[0]
            start = max(0, end - SCAN_MAX)
            scan = _Scan(unread=start)
            try:
                async with asyncio.timeout(SCAN_TIMEOUT_S):
                    await self._read(scan, start, end, wanted)
            except TimeoutError as error:
                told = f"{self._topic} was not read within {SCAN_TIMEOUT_S:g} s: it is too large"
                raise Unavailable(told) from error
            return scan

    async def _read(self, scan: _Scan, start: int, end: int, wanted: Collection[int]) -> None:
        offset, empty = start, 0
        await self._reader.follow({0: start})
        while offset < end:
            batch = await self._reader.poll(
                lambda record: (record.offset, read(record, self._topics, wanted)), POLL_WAIT_MS
            )
            for number, item in batch.items:
                if number < end:
                    scan.take(item)
            empty = 0 if batch.items else empty + 1
            if empty > EMPTY_POLLS_MAX:
                raise DriverError(f"{self._topic} could not be read up to number {end - 1}")
            offset = batch.next_offsets.get(0, offset)


_NO_COMMAND: Final[Mapping[str, str]] = {
    "event": "a record of the event log is not replayed: its place in the order is gone. A release "
    "that can read it finds it where it stands, when the state is rebuilt from the log",
    "other": "it is no command: nothing is known of where it stood",
}
