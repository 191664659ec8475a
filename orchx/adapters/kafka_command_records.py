"""Commands as they stand on the topic: their JSON, and what tells a repetition."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Final, TypeAlias

import msgspec
from kafka.consumer.fetcher import ConsumerRecord

from orchx.adapters.kafka_connection import partition_of
from orchx.domain.messages import AnyCommand, DeliverEvent, StartWorkflow, content_of
from orchx.errors import DriverError, TooLarge

COMMAND_BYTES_MAX: Final = 4 * 1_048_576  # the largest value is 2 MiB, escaped it is longer

NESTING_MAX: Final = 400  # what is put nests half as deep, msgspec takes twice as much
TIME_MAX_MS: Final = 2**53 - 1

_encoder: Final = msgspec.json.Encoder()
_content: Final = msgspec.json.Encoder(order="sorted")
_decoder: Final = msgspec.json.Decoder(AnyCommand)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceivedCommand:
    """A command read from the topic. `payload` is its JSON, as it was put."""

    partition: int
    offset: int
    timestamp_ms: int
    payload: bytes
    command: AnyCommand


@dataclass(frozen=True, slots=True, kw_only=True)
class PoisonedRecord:
    """A record that is not a command, and why."""

    record: ConsumerRecord
    error: str

    @property
    def partition(self) -> int:
        """Where it stands."""
        return self.record.partition

    @property
    def offset(self) -> int:
        """Where it stands in its partition."""
        return self.record.offset

    def where(self) -> dict[str, int | str]:
        """Return what a log line says of it."""
        return {"partition": self.partition, "offset": self.offset, "error": self.error}


Received: TypeAlias = ReceivedCommand | PoisonedRecord


def encode_command(command: AnyCommand) -> bytes:
    """Return the JSON of a command.

    Raises:
        TooLarge: it is longer than `COMMAND_BYTES_MAX`, or nests deeper than `NESTING_MAX`.
    """
    payload = _encoder.encode(command)
    if len(payload) > COMMAND_BYTES_MAX:
        raise TooLarge(
            f"command {command.id!r} is {len(payload)} bytes long; at most {COMMAND_BYTES_MAX} "
            "fit into the queue"
        )
    if _nests_too_deeply(payload):
        raise TooLarge(f"command {command.id!r} nests more than {NESTING_MAX} levels deep")
    return payload


def decode_command(payload: bytes | str) -> AnyCommand:
    """Return the command with this JSON.

    Raises:
        DriverError: this release cannot read it.
    """
    try:
        command: AnyCommand = _decoder.decode(payload)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise DriverError(f"the queue holds what this release cannot read: {error}") from error
    return command


def receive(record: ConsumerRecord, *, partitions: int) -> Received:
    """Tell a command from a record that is none, stands astray, or that no store could take.

    Args:
        record: what was read.
        partitions: how many the topic has.
    """
    payload = record.value
    try:
        command = command_in(payload)
    except DriverError as failure:
        return PoisonedRecord(record=record, error=str(failure))
    if record.key != key_of(command):
        return PoisonedRecord(record=record, error="the key is not that of the command")
    home = partition_of_command(command, partitions)
    if record.partition != home:
        error = f"the command's partition is {home} of {partitions}"
        return PoisonedRecord(record=record, error=error)
    return ReceivedCommand(
        partition=record.partition,
        offset=record.offset,
        timestamp_ms=record.timestamp,
        payload=payload,
        command=command,
    )


def command_in(payload: object) -> AnyCommand:
    """Return the command that is the whole of a record's value.

    Raises:
        DriverError: it is none, or one that no store could take.
    """
    if not isinstance(payload, bytes):
        raise DriverError("the record has no value")
    if len(payload) > COMMAND_BYTES_MAX:
        raise DriverError(
            f"the value is {len(payload)} bytes long, at most {COMMAND_BYTES_MAX} are read"
        )
    try:
        payload.decode()  # a part that is skipped is not looked at otherwise
        command = decode_command(payload)
    except (DriverError, UnicodeDecodeError) as failure:
        raise DriverError(str(failure.__cause__ or failure)) from failure
    fault = _fault_of(command, payload)
    if fault is not None:
        raise DriverError(fault)
    return command


def _fault_of(command: AnyCommand, payload: bytes) -> str | None:
    if not command.id:
        return "the command has no id"
    if not 0 <= command.created_at_ms <= TIME_MAX_MS:
        return "created_at_ms is no time"
    if _nests_too_deeply(payload):
        return f"it nests more than {NESTING_MAX} levels deep"
    return None


def _nests_too_deeply(payload: bytes) -> bool:
    if payload.count(b"{") + payload.count(b"[") <= NESTING_MAX:
        return False
    level = [msgspec.json.decode(payload)]
    for _ in range(NESTING_MAX):
        level = [
            inner
            for outer in level
            for inner in (outer.values() if isinstance(outer, dict) else outer)
            if isinstance(inner, dict | list)
        ]
        if not level:
            return False
    return True


def key_name(command: AnyCommand) -> str:
    """Return whose order a command keeps: its workflow's; a broadcast stands alone."""
    return command.workflow_id or command.id


def partition_of_command(command: AnyCommand, count: int) -> int:
    """Return a command's partition among `count`: where it was sent to, or that of its key."""
    if isinstance(command, DeliverEvent) and command.partition is not None:
        return command.partition
    return partition_of(key_name(command), count)


def key_of(command: AnyCommand) -> bytes:
    """Return the key of a command's record."""
    return key_name(command).encode()


def digest_of(command: AnyCommand) -> str:
    """Return what tells a repetition from another use of the id."""
    return hashlib.sha256(_content.encode(content_of(command))).hexdigest()


def tenant_of(command: AnyCommand) -> str | None:
    """Return whose request a command starts; None for any other command."""
    return command.request.tenant if isinstance(command, StartWorkflow) else None
