"""The event log's Kafka records: one holds what one turn of one workflow appended.

Key: the workflow id. Value: JSON, to be read with any Kafka tool:
`{"epoch":1,"owner":"o","records":[[seq,at_ms,traceparent,version,{event}],…]}`. The header
`activates` repeats the epoch where a WorkflowActivated is among the events, and stands nowhere
else, so that whoever looks for owners decodes few values.

Whatever is not of this form, or stands in another partition than its workflow's, is poison: it
was written by something else, or is damaged. Every reader skips it by the rules of this file, so
that all of them see the same log. What a newer orchx wrote is no poison: nobody goes on behind it
who cannot read it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import msgspec
from kafka.consumer.fetcher import ConsumerRecord

from orchx.adapters.kafka_connection import partition_of
from orchx.domain.events import SCHEMA_VERSION, AnyEvent, Record, WorkflowActivated
from orchx.errors import Bug, DriverError

TURN_OFFSETS: Final = 4_096
"""How many of the log's offsets one Kafka offset stands for, whether there are records or not."""

TURN_RECORDS_MAX: Final = TURN_OFFSETS - 1
TURN_BYTES_MAX: Final = 8 * 1_048_576
KEY_BYTES_MAX: Final = 1_024
ACTIVATES: Final = "activates"


class _Line(msgspec.Struct, array_like=True):
    seq: int
    at_ms: int
    traceparent: str | None
    version: int
    event: AnyEvent


class _LineVersion(msgspec.Struct, array_like=True):
    """The same without what only its own release understands."""

    seq: int
    at_ms: int
    traceparent: str | None
    version: int


class _Versions(msgspec.Struct):
    records: list[_LineVersion]


class _Value(msgspec.Struct):
    epoch: int
    owner: str
    records: list[_Line]


_encoder: Final = msgspec.json.Encoder()
_decoder: Final = msgspec.json.Decoder(_Value)
_version_decoder: Final = msgspec.json.Decoder(_Versions)


@dataclass(frozen=True, slots=True)
class EncodedTurn:
    """A turn that is to be written."""

    workflow_id: str
    value: bytes
    activates: int

    @property
    def headers(self) -> Sequence[tuple[str, bytes]]:
        """The Kafka record's headers."""
        return [(ACTIVATES, str(self.activates).encode())] if self.activates else []


@dataclass(frozen=True, slots=True)
class Turn:
    """A turn that was read; `offset` is Kafka's, `activates` 0 if nobody is activated."""

    partition: int
    offset: int
    workflow_id: str
    value: bytes
    activates: int


class PoisonedTurn(Exception):
    """A Kafka record is no turn; the text says why."""


class NewerTurn(DriverError):
    """A turn is of a schema version that this release does not know: only a newer one may go on."""


def encode_turns(records: Iterable[Record]) -> list[EncodedTurn]:
    """Return the Kafka records for an append, in the order of each workflow's first record.

    Raises:
        Bug: a workflow has more than fits one, or records of two owners.
    """
    by_workflow: dict[str, list[Record]] = {}
    for record in records:
        by_workflow.setdefault(record.workflow_id, []).append(record)
    return [_encode(workflow_id, turn) for workflow_id, turn in by_workflow.items()]


def _encode(workflow_id: str, records: Sequence[Record]) -> EncodedTurn:
    first = records[0]
    if len(records) > TURN_RECORDS_MAX:
        raise Bug(f"{workflow_id}: {len(records)} events in a turn; {TURN_RECORDS_MAX} fit")
    if any(r.epoch != first.epoch or r.owner != first.owner for r in records):
        raise Bug(f"{workflow_id}: one append for two owners")
    lines = [_Line(r.seq, r.at_ms, r.traceparent, r.version, r.event) for r in records]
    value = _encoder.encode(_Value(first.epoch, first.owner, lines))
    if len(value) > TURN_BYTES_MAX:
        raise Bug(f"{workflow_id}: a turn of {len(value)} bytes; {TURN_BYTES_MAX} fit")
    activated = any(type(r.event) is WorkflowActivated for r in records)
    return EncodedTurn(workflow_id, value, first.epoch if activated else 0)


def turn_of(message: ConsumerRecord, *, partitions: int) -> Turn:
    """Return the turn that a Kafka record holds; its events are not looked at yet.

    They are where somebody is activated: an epoch counts only where every reader sees it.

    Args:
        message: what was read.
        partitions: how many the topic has.

    Raises:
        PoisonedTurn: it is none.
    """
    key, value = message.key, message.value
    _check_size(key, value)
    try:
        workflow_id = str(key, "utf-8")
    except UnicodeDecodeError as error:
        raise PoisonedTurn("the key is no workflow id") from error
    home = partition_of(workflow_id, partitions)
    if message.partition != home:
        raise PoisonedTurn(f"the workflow's partition is {home} of {partitions}")
    epoch = _activates(message.headers)
    return _checked(Turn(message.partition, message.offset, workflow_id, value, epoch))


def landed_turn(turn: EncodedTurn, *, partition: int, offset: int) -> Turn:
    """Return what every reader finds where this was written, to its workflow's partition.

    Raises:
        PoisonedTurn: readers skip it.
    """
    _check_size(turn.workflow_id.encode(), turn.value)
    return _checked(Turn(partition, offset, turn.workflow_id, turn.value, turn.activates))


def _check_size(key: bytes | None, value: bytes | None) -> None:
    if not key or len(key) > KEY_BYTES_MAX:
        raise PoisonedTurn("the key is no workflow id")
    if value is None or len(value) > TURN_BYTES_MAX:
        raise PoisonedTurn("no value" if value is None else "the value is too large")


def _checked(turn: Turn) -> Turn:
    if turn.activates:
        with contextlib.suppress(NewerTurn):  # whoever reads its events hears of it
            _decode(turn)
    return turn


def records_of(turn: Turn) -> list[Record]:
    """Return the records of a turn, with their offsets in the log.

    Raises:
        PoisonedTurn: it is none.
        NewerTurn: a newer orchx wrote it.
    """
    value = _decode(turn)
    first = turn.offset * TURN_OFFSETS + 1
    return [
        Record(
            workflow_id=turn.workflow_id,
            epoch=value.epoch,
            owner=value.owner,
            seq=line.seq,
            at_ms=line.at_ms,
            event=line.event,
            traceparent=line.traceparent,
            version=line.version,
            offset=first + place,
        )
        for place, line in enumerate(value.records)
    ]


def _activates(headers: Iterable[tuple[str, bytes | None]]) -> int:
    for name, value in headers:
        if name == ACTIVATES:
            if not value or not value.isdigit() or len(value) > 18 or int(value) < 1:
                raise PoisonedTurn(f"the header {ACTIVATES} is no epoch")
            return int(value)
    return 0


def _decode(turn: Turn) -> _Value:
    try:
        value = _decoder.decode(turn.value)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        _check_version(turn, _versions(turn.value))
        raise PoisonedTurn(str(error)) from error
    _check_version(turn, value.records)
    if not 1 <= len(value.records) <= TURN_RECORDS_MAX:
        raise PoisonedTurn(f"{len(value.records)} events in a turn")
    activated = any(type(line.event) is WorkflowActivated for line in value.records)
    if turn.activates != (value.epoch if activated else 0):
        raise PoisonedTurn(f"the header {ACTIVATES} does not fit the events")
    return value


def _versions(value: bytes) -> Sequence[_LineVersion]:
    try:
        return _version_decoder.decode(value).records
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return ()


def _check_version(turn: Turn, lines: Iterable[_Line | _LineVersion]) -> None:
    version = max((line.version for line in lines), default=SCHEMA_VERSION)
    if version > SCHEMA_VERSION:
        raise NewerTurn(
            f"the log's partition {turn.partition} holds, at {turn.offset}, records of schema "
            f"version {version} of {turn.workflow_id}; this release of orchx reads up to "
            f"{SCHEMA_VERSION}: install the newer release that wrote them"
        )
