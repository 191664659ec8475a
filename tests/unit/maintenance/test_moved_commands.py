"""Where commands go when their topic gets other partitions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from kafka.consumer.fetcher import ConsumerRecord

from orchx.adapters.kafka_command_records import (
    ReceivedCommand,
    encode_command,
    key_of,
    partition_of_command,
    receive,
)
from orchx.adapters.kafka_writer import Outgoing
from orchx.adapters.mongo_command_progress import Acknowledged
from orchx.domain.messages import AnyCommand, CancelWorkflow, DeliverEvent
from orchx.engine.routing import relayed_commands
from orchx.maintenance.moved_commands import MovedCommands

BEFORE, COUNT = 2, 5
EVENT = {"id": "e", "source": "s", "type": "t"}
BROADCAST = DeliverEvent(id="b", workflow_id="", created_at_ms=1, event=EVENT)
[RELAYED] = relayed_commands(BROADCAST, [1])
CANCEL = CancelWorkflow(id="c", workflow_id="w", created_at_ms=1)


def record(command: AnyCommand, offset: int = 0) -> ConsumerRecord:
    partition = partition_of_command(command, BEFORE)
    return _record(partition, offset, key_of(command), encode_command(command))


def _record(partition: int, offset: int, key: bytes | None, value: bytes | None) -> ConsumerRecord:
    fields: dict[str, Any] = dict.fromkeys(ConsumerRecord._fields)
    fields |= {"topic": "t", "partition": partition, "offset": offset, "timestamp": 1}
    return ConsumerRecord(**{**fields, "key": key, "value": value, "headers": []})


def ids(outgoing: Sequence[Outgoing]) -> list[str]:
    """Return the commands' ids, once it is seen that a queue would read them."""
    found = []
    for number, one in enumerate(outgoing):
        there = _record(one.partition, number, one.key, one.value)
        received = receive(there, partitions=COUNT)
        assert isinstance(received, ReceivedCommand)
        assert one.partition == partition_of_command(received.command, COUNT)
        assert one.topic == "new"
        found.append(received.command.id)
    return found


def moved(**known: Acknowledged) -> MovedCommands:
    everywhere = dict.fromkeys(range(BEFORE), known.get("known", Acknowledged()))
    return MovedCommands("new", everywhere, before=BEFORE, count=COUNT)


@pytest.mark.parametrize("command", [CANCEL, BROADCAST])
def test_what_waits_goes_where_its_key_belongs(command: AnyCommand) -> None:
    assert ids(moved().waiting(record(command))) == [command.id]
    assert moved().acknowledged(record(command)) == ()


@pytest.mark.parametrize("command", [CANCEL, BROADCAST])
def test_what_is_acknowledged_is_kept_to_be_recognised(command: AnyCommand) -> None:
    known = Acknowledged(watermark=2, above=((4, 6),))
    covered = [
        offset
        for offset in range(8)
        if moved(known=known).acknowledged(record(command, offset)) != ()
    ]
    assert covered == [0, 1, 4, 5]
    for offset in range(8):
        waits = moved(known=known).waiting(record(command, offset)) != ()
        assert waits is (offset not in covered)


def test_what_was_relayed_is_relayed_to_all() -> None:
    everywhere = [one.id for one in relayed_commands(BROADCAST, range(COUNT))]
    outgoing = moved().waiting(record(RELAYED))
    assert ids(outgoing) == everywhere
    assert [one.partition for one in outgoing] == list(range(COUNT))


def test_what_was_relayed_and_is_acknowledged_is_left_behind() -> None:
    known = Acknowledged(watermark=1)
    assert moved(known=known).acknowledged(record(RELAYED)) == ()
    assert moved(known=known).waiting(record(RELAYED)) == ()


def test_what_is_no_command_is_left_behind() -> None:
    foreign = record(CANCEL)._replace(value=b"{}")
    assert moved().waiting(foreign) == ()
    assert moved(known=Acknowledged(watermark=1)).acknowledged(foreign) == ()


def test_what_stands_astray_is_left_behind() -> None:
    there = record(CANCEL)
    assert moved().waiting(there._replace(partition=1 - there.partition)) == ()


def test_a_partition_of_which_nothing_is_known_waits_whole() -> None:
    unknown = MovedCommands("new", {}, before=BEFORE, count=COUNT)
    assert ids(unknown.waiting(record(CANCEL, 7))) == ["c"]


def test_what_only_the_index_has_is_sorted_by_what_becomes_of_it() -> None:
    commands = moved(known=Acknowledged(watermark=2))
    there: list[AnyCommand] = [CANCEL, RELAYED, BROADCAST]
    page = [(offset, encode_command(one)) for offset, one in enumerate(there)]
    expired = commands.expired(0, page)
    assert (expired.kept, expired.left_behind) == (["c"], [RELAYED.id])
    assert ids(expired.moved) == ["b"]
