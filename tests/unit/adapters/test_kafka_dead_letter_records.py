"""Copies of records and notes about them, as they go to the dead-letter topic and come back."""

from __future__ import annotations

from typing import Any

import pytest
from kafka.consumer.fetcher import ConsumerRecord

from orchx.adapters.kafka_connection import Topics
from orchx.adapters.kafka_dead_letter_records import (
    HEADERS_BYTES_MAX,
    HEADERS_MAX,
    KEY_BYTES_MAX,
    VALUE_BYTES_MAX,
    Copy,
    Note,
    copy_of,
    note_of,
    read,
    source_of,
)
from orchx.adapters.kafka_topics import MESSAGE_BYTES_MAX
from orchx.adapters.kafka_writer import Outgoing
from orchx.ports.dead_letters import Contents, Handled, SourceRecord

TOPICS = Topics("orchx")


def arrived(sent: Outgoing, number: int = 5) -> ConsumerRecord:
    headers = list(sent.headers)
    return ConsumerRecord(
        sent.topic, sent.partition, None, number, 77, 0, sent.key, sent.value, headers,
        checksum=None, serialized_key_size=0, serialized_value_size=0, serialized_header_size=0,
    )  # fmt: skip


def contents_of(sent: Outgoing) -> Contents:
    item = read(arrived(sent), TOPICS, [5])
    assert isinstance(item, Copy)
    assert item.contents is not None
    return item.contents


def copied(error: str = "e", **changes: object) -> Outgoing:
    fields = {"key": b"k", "value": b"v", "headers": [], **changes}
    record = SourceRecord(topic=TOPICS.commands, partition=3, offset=9, at_ms=11, **fields)  # type: ignore[arg-type]
    return copy_of(record, error, TOPICS.dead_letters)


def test_contents_are_kept_only_of_what_was_asked_for() -> None:
    item = read(arrived(copied()), TOPICS, [4])
    assert isinstance(item, Copy)
    assert item.contents is None
    assert (item.letter.number, item.letter.kept_at_ms, item.letter.at_ms) == (5, 77, 11)


def test_whatever_is_too_large_is_cut_and_fits() -> None:
    many = [("n", b"x" * 1_000)] * 2_000
    sent = copied(
        "é" * 10_000, key=b"k" * 2_000_000, value=b"v" * (VALUE_BYTES_MAX + 1), headers=many
    )
    names = sum(len(name) for name, _ in sent.headers)
    assert sent.size + names + 10_000 < MESSAGE_BYTES_MAX
    found = contents_of(sent)
    assert found.cut == ["value", "key", "headers"]
    assert found.letter.size_bytes == VALUE_BYTES_MAX + 1
    assert (len(found.key or b""), len(found.value or b"")) == (KEY_BYTES_MAX, VALUE_BYTES_MAX)
    assert 0 < len(found.headers) <= HEADERS_BYTES_MAX // 1_000
    assert "é" * 900 in found.letter.error


def test_what_just_fits_is_whole() -> None:
    headers = [("n", b"")] * HEADERS_MAX
    key, value = b"k" * KEY_BYTES_MAX, b"v" * VALUE_BYTES_MAX
    found = contents_of(copied(key=key, value=value, headers=headers))
    assert (found.key, found.value, list(found.headers)) == (key, value, headers)
    assert found.cut == []
    more = contents_of(copied(headers=[*headers, ("n", b"")]))
    assert more.cut == ["headers"]


def test_a_records_own_headers_cannot_pass_for_ours() -> None:
    headers = [("orchx-topic", b"other"), ("orchx-handled", b"dropped"), ("orchx-cut", b"9")]
    found = contents_of(copied(headers=headers))
    assert list(found.headers) == headers
    assert (found.letter.topic, found.letter.handled, found.cut) == (TOPICS.commands, None, [])


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [("orchx-topic", b"t")],
        [("orchx-topic", b"t"), ("orchx-partition", b"1"), ("orchx-offset", b"-1")],
        [("orchx-topic", b"t"), ("orchx-partition", "²".encode()), ("orchx-offset", b"1")],
        [("orchx-topic", b"t"), ("orchx-partition", b"1"), ("orchx-offset", b"1" * 30)],
    ],
)
def test_what_a_stranger_has_written_is_a_letter_of_its_own(
    headers: list[tuple[str, bytes]],
) -> None:
    sent = Outgoing(
        topic=TOPICS.dead_letters, partition=0, key=None, value=b"hello", headers=headers
    )
    found = contents_of(sent)
    letter = found.letter
    assert (letter.topic, letter.partition, letter.offset) == (TOPICS.dead_letters, 0, 5)
    assert (letter.kind, letter.preview) == ("other", b"hello")
    assert "not kept aside by orchx" in letter.error


def test_what_has_neither_key_nor_value_can_be_written_all_the_same() -> None:
    sent = copied(key=None, value=None)
    assert sent.value is not None  # else kafka-python refuses it
    found = contents_of(sent)
    assert (found.key, found.value, found.cut) == (None, None, [])
    assert contents_of(copied(key=None, value=b"")).value == b""
    assert contents_of(copied(value=None)).value is None


def test_a_header_without_a_value_is_empty() -> None:
    record = arrived(Outgoing(topic="t", partition=0, key=None, value=None))
    nothing: Any = None
    bare = record._replace(headers=[("h", nothing)])
    assert source_of(bare).headers == [("h", b"")]
    assert isinstance(read(bare, TOPICS, [5]), Copy)


def test_a_note_comes_back_as_it_was() -> None:
    item = read(arrived(copied()), TOPICS, [])
    assert isinstance(item, Copy)
    handled = Handled(how="replayed", by="ada", at_ms=8, note="command é")
    note = read(arrived(note_of(item.letter, handled, TOPICS.dead_letters)), TOPICS, [5])
    assert note == Note(source=item.source, handled=handled)
