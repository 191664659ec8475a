"""Dead letters as they stand on their topic: copies of records, and notes of what became of them.

A copy has the value and the key of the original. Headers say where that stood and what was wrong;
those of the original follow, with a prefix. A note has nothing but headers.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from kafka.consumer.fetcher import ConsumerRecord

from orchx.adapters.kafka_connection import Topics
from orchx.adapters.kafka_topics import MESSAGE_BYTES_MAX
from orchx.adapters.kafka_writer import Outgoing
from orchx.ports.dead_letters import (
    PREVIEW_BYTES,
    Contents,
    DeadLetter,
    Ending,
    Handled,
    Kind,
    SourceRecord,
)

VALUE_BYTES_MAX: Final = MESSAGE_BYTES_MAX - 1_048_576  # leaves room for key and headers
KEY_BYTES_MAX: Final = 65_536
HEADERS_BYTES_MAX: Final = 262_144
HEADERS_MAX: Final = 1_000
ERROR_BYTES_MAX: Final = 2_000
NOTE_BYTES_MAX: Final = 4_000

_TOPIC: Final = "orchx-topic"
_PARTITION: Final = "orchx-partition"
_OFFSET: Final = "orchx-offset"
_AT: Final = "orchx-at-ms"
_ERROR: Final = "orchx-error"
_CUT_VALUE: Final = "orchx-cut"  # holds the length before, as the others do
_CUT_KEY: Final = "orchx-cut-key"
_CUT_HEADERS: Final = "orchx-cut-headers"
_HANDLED: Final = "orchx-handled"
_BY: Final = "orchx-by"
_NOTE: Final = "orchx-note"
_EMPTY: Final = "orchx-empty"
_ORIGINAL: Final = "orchx-header:"
_CUTS: Final = {_CUT_VALUE: "value", _CUT_KEY: "key", _CUT_HEADERS: "headers"}
_ENDINGS: Final[Mapping[bytes, Ending]] = {b"replayed": "replayed", b"dropped": "dropped"}

Source: TypeAlias = tuple[str, int, int]
"""Topic, partition and offset: what makes two copies one letter."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Copy:
    """A record that was kept aside; `contents` is there if it was asked for."""

    letter: DeadLetter
    contents: Contents | None

    @property
    def source(self) -> Source:
        """Where the original stood."""
        return self.letter.topic, self.letter.partition, self.letter.offset


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """What became of a letter."""

    source: Source
    handled: Handled


def source_of(record: ConsumerRecord) -> SourceRecord:
    """Return a record as the port has it."""
    return SourceRecord(
        topic=record.topic,
        partition=record.partition,
        offset=record.offset,
        at_ms=record.timestamp,
        key=record.key,
        value=record.value,
        headers=[(name, value or b"") for name, value in record.headers],
    )


def copy_of(record: SourceRecord, error: str, topic: str) -> Outgoing:
    """Return the copy to be written; whatever is too large is cut, and says so."""
    value, cut_value = _cut(record.value, VALUE_BYTES_MAX)
    key, cut_key = _cut(record.key, KEY_BYTES_MAX)
    headers = [
        *_place(record.topic, record.partition, record.offset),
        (_AT, str(record.at_ms).encode()),
        (_ERROR, error.encode(errors="replace")[:ERROR_BYTES_MAX]),
    ]
    kept = _kept_headers(record.headers)
    for name, length in (
        (_CUT_VALUE, cut_value),
        (_CUT_KEY, cut_key),
        (_CUT_HEADERS, len(record.headers) if len(kept) < len(record.headers) else None),
    ):
        if length is not None:
            headers.append((name, str(length).encode()))
    if key is None and value is None:  # which kafka-python does not write
        headers.append((_EMPTY, b""))
        value = b""
    headers += kept
    return Outgoing(topic=topic, partition=0, key=key, value=value, headers=headers)


def note_of(letter: DeadLetter, handled: Handled, topic: str) -> Outgoing:
    """Return the note to be written."""
    headers = [
        *_place(letter.topic, letter.partition, letter.offset),
        (_HANDLED, handled.how.encode()),
        (_AT, str(handled.at_ms).encode()),
        (_BY, handled.by.encode(errors="replace")[:NOTE_BYTES_MAX]),
        (_NOTE, handled.note.encode(errors="replace")[:NOTE_BYTES_MAX]),
    ]
    return Outgoing(topic=topic, partition=0, key=None, value=b"", headers=headers)


def read(record: ConsumerRecord, topics: Topics, wanted: Collection[int]) -> Copy | Note:
    """Tell copies and notes apart; what a stranger has written is a letter of its own.

    Args:
        record: of the dead-letter topic.
        topics: say what kind of record stood where.
        wanted: the numbers whose contents are kept.
    """
    headers = {name: value or b"" for name, value in reversed(record.headers)}
    source = _source(headers)
    if source is None:
        letter = _letter(record, headers, (record.topic, record.partition, record.offset), "other")
    elif (how := _ENDINGS.get(headers.get(_HANDLED, b""))) is not None:
        handled = Handled(
            how=how,
            by=_text(headers, _BY),
            at_ms=_number(headers, _AT) or record.timestamp,
            note=_text(headers, _NOTE),
        )
        return Note(source=source, handled=handled)
    else:
        kinds: dict[str, Kind] = {topics.commands: "command", topics.events: "event"}
        letter = _letter(record, headers, source, kinds.get(source[0], "other"))
    contents = None
    if record.offset in wanted:
        contents = Contents(
            letter=letter,
            key=record.key,
            value=None if source is not None and _EMPTY in headers else record.value,
            headers=[
                (name.removeprefix(_ORIGINAL), value or b"")
                for name, value in record.headers
                if name.startswith(_ORIGINAL) or source is None
            ],
            cut=[what for name, what in _CUTS.items() if source is not None and name in headers],
        )
    return Copy(letter=letter, contents=contents)


def _letter(
    record: ConsumerRecord, headers: Mapping[str, bytes], source: Source, kind: Kind
) -> DeadLetter:
    topic, partition, offset = source
    value = record.value or b""
    stranger = "it was not kept aside by orchx: somebody else writes to this topic"
    return DeadLetter(
        number=record.offset,
        kind=kind,
        topic=topic,
        partition=partition,
        offset=offset,
        at_ms=_number(headers, _AT) or record.timestamp,
        kept_at_ms=record.timestamp,
        error=_text(headers, _ERROR) if topic != record.topic else stranger,
        size_bytes=_number(headers, _CUT_VALUE) or len(value),
        preview=bytes(value[:PREVIEW_BYTES]),
    )


def _place(topic: str, partition: int, offset: int) -> list[tuple[str, bytes]]:
    return [
        (_TOPIC, topic.encode()),
        (_PARTITION, str(partition).encode()),
        (_OFFSET, str(offset).encode()),
    ]


def _source(headers: Mapping[str, bytes]) -> Source | None:
    """Return where the original stood; None where a stranger has left something else."""
    partition, offset = _number(headers, _PARTITION), _number(headers, _OFFSET)
    topic = _text(headers, _TOPIC)
    return None if not topic or partition is None or offset is None else (topic, partition, offset)


def _kept_headers(headers: Sequence[tuple[str, bytes]]) -> list[tuple[str, bytes]]:
    """Return as many of the original's headers, from the first on, as there is room for."""
    kept: list[tuple[str, bytes]] = []
    room = HEADERS_BYTES_MAX
    for name, value in headers[:HEADERS_MAX]:
        room -= len(name.encode()) + len(value)
        if room < 0:
            break
        kept.append((_ORIGINAL + name, value))
    return kept


def _cut(content: bytes | None, limit: int) -> tuple[bytes | None, int | None]:
    """Return what is kept of some bytes, and how many there were if that is not all."""
    if content is None or len(content) <= limit:
        return content, None
    return content[:limit], len(content)


def _text(headers: Mapping[str, bytes], name: str) -> str:
    return headers.get(name, b"").decode(errors="replace")


def _number(headers: Mapping[str, bytes], name: str) -> int | None:
    text = headers.get(name, b"")
    return int(text) if text.isdigit() and len(text) < 20 else None
