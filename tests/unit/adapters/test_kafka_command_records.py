"""Telling commands from other records, and repetitions from other uses of an id."""

from __future__ import annotations

import msgspec
import pytest
from kafka.consumer.fetcher import ConsumerRecord

from orchx.adapters import kafka_command_records as module
from orchx.adapters.kafka_command_records import (
    NESTING_MAX,
    PoisonedRecord,
    Received,
    ReceivedCommand,
    digest_of,
    encode_command,
    key_of,
)
from orchx.adapters.kafka_connection import partition_of
from orchx.domain.messages import AnyCommand, CancelWorkflow, DeliverEvent
from orchx.errors import TooLarge

CANCEL = CancelWorkflow(id="c", workflow_id="w", created_at_ms=1, reason="r")
BROADCAST = DeliverEvent(id="e", workflow_id="", created_at_ms=1, event={"type": "t"})


def nested(levels: int) -> DeliverEvent:
    value: object = []
    for _ in range(levels - 3):  # with those of the list, of `event` and of the command
        value = [value]
    return DeliverEvent(id="e", workflow_id="w", created_at_ms=1, event={"data": value})


def receive(record: ConsumerRecord) -> Received:
    return module.receive(record, partitions=1)


def record(value: object, key: bytes | None = b"w") -> ConsumerRecord:
    return ConsumerRecord(
        "t", 0, None, 7, 11, 0, key, value, [], checksum=None,
        serialized_key_size=0, serialized_value_size=0, serialized_header_size=0,
    )  # fmt: skip


@pytest.mark.parametrize("command", [CANCEL, BROADCAST, nested(NESTING_MAX)])
def test_a_command_comes_back_as_it_was(command: AnyCommand) -> None:
    payload = encode_command(command)
    received = receive(record(payload, key_of(command)))
    assert received == ReceivedCommand(
        partition=0, offset=7, timestamp_ms=11, payload=payload, command=command
    )


@pytest.mark.parametrize(
    ("value", "key", "error"),
    [
        (None, b"w", "no value"),
        (b"", b"w", "truncated"),
        (b"not json", b"w", "malformed"),
        (b'{"kind":"dance","id":"c"}', b"w", "kind"),
        (b'{"kind":"cancel","id":"c"}', b"w", "workflow_id"),
        (b'{"kind":"cancel","id":"\xff","workflow_id":"w","created_at_ms":1}', b"w", "UTF-8"),
        (b'{"kind":"cancel","id":"","workflow_id":"w","created_at_ms":1}', b"w", "no id"),
        (encode_command(CANCEL)[:-1] + b',"more":"\xff"}', b"w", "UTF-8"),
        (encode_command(CANCEL).replace(b":1}", b":%d}" % 2**64), b"w", "no time"),
        (encode_command(CANCEL).replace(b":1}", b":-1}"), b"w", "no time"),
        (msgspec.json.encode(nested(500)), b"w", "nests"),
        (msgspec.json.encode(nested(800)).replace(b"[[", b"[" * 5000, 1), b"w", "recursion"),
        (encode_command(CANCEL), b"other", "key"),
        (encode_command(CANCEL), None, "key"),
    ],
)
def test_what_is_no_command_is_told_apart(
    value: bytes | None, key: bytes | None, error: str
) -> None:
    received = receive(record(value, key))
    assert isinstance(received, PoisonedRecord)
    assert error.lower() in received.error.lower().replace("utf8", "utf-8")
    assert received.where() == {"partition": 0, "offset": 7, "error": received.error}


def test_a_command_stands_in_its_own_partition_only() -> None:
    stray = record(encode_command(CANCEL))
    found = [module.receive(stray, partitions=count) for count in range(1, 20)]
    homes = [partition_of("w", count) for count in range(1, 20)]
    assert [isinstance(one, ReceivedCommand) for one in found] == [home == 0 for home in homes]
    assert any(isinstance(one, PoisonedRecord) and "partition is" in one.error for one in found)


def test_what_a_newer_release_has_added_is_let_pass() -> None:
    value = encode_command(CANCEL)[:-1] + b',"urgency":3}'
    received = receive(record(value))
    assert isinstance(received, ReceivedCommand)
    assert received.payload == value


def test_what_is_too_large_is_neither_put_nor_read(monkeypatch: pytest.MonkeyPatch) -> None:
    value = encode_command(CANCEL)
    monkeypatch.setattr(module, "COMMAND_BYTES_MAX", len(value) - 1)
    with pytest.raises(TooLarge, match="'c'"):
        encode_command(CANCEL)
    assert isinstance(receive(record(value)), PoisonedRecord)


def test_what_nests_too_deeply_is_not_put() -> None:
    with pytest.raises(TooLarge, match="nests"):
        encode_command(nested(NESTING_MAX + 1))


def test_the_digest_tells_a_repetition_from_another_use() -> None:
    again = msgspec.structs.replace(CANCEL, created_at_ms=9, traceparent="t")
    assert digest_of(again) == digest_of(CANCEL)
    assert digest_of(msgspec.structs.replace(CANCEL, reason="s")) != digest_of(CANCEL)


def test_a_broadcast_stands_alone() -> None:
    assert key_of(BROADCAST) == b"e"
    assert key_of(CANCEL) == b"w"
