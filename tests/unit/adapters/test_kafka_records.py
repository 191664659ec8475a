"""What stands in the log's Kafka records, and what is refused as poison."""

from __future__ import annotations

import json

import pytest
from kafka.consumer.fetcher import ConsumerRecord

from orchx.adapters.kafka_connection import partition_of
from orchx.adapters.kafka_records import (
    TURN_OFFSETS,
    TURN_RECORDS_MAX,
    EncodedTurn,
    NewerTurn,
    PoisonedTurn,
    encode_turns,
    records_of,
    turn_of,
)
from orchx.domain.events import (
    SCHEMA_VERSION,
    Record,
    TaskCompleted,
    TaskSkipped,
    WorkflowActivated,
)
from orchx.errors import Bug

SKIPPED = TaskSkipped(parent=0, reference="/do/0")


def record(workflow_id: str = "w", seq: int = 1, **changes: object) -> Record:
    fields = {"epoch": 1, "owner": "o", "at_ms": 5, "event": SKIPPED, **changes}
    return Record(workflow_id=workflow_id, seq=seq, **fields)  # type: ignore[arg-type]


def message(**changes: object) -> ConsumerRecord:
    fields: dict[str, object] = {
        "topic": "t.events",
        "partition": 0,
        "leader_epoch": 0,
        "offset": 7,
        "timestamp": 0,
        "timestamp_type": 0,
        "key": b"w",
        "value": b"{}",
        "headers": [],
        "checksum": None,
        "serialized_key_size": 1,
        "serialized_value_size": 1,
        "serialized_header_size": 0,
        **changes,
    }
    return ConsumerRecord(**fields)  # type: ignore[arg-type]


def read_back(turn: EncodedTurn, **changes: object) -> list[Record]:
    fields = {
        "key": turn.workflow_id.encode(),
        "value": turn.value,
        "headers": list(turn.headers),
        **changes,
    }
    return records_of(turn_of(message(**fields), partitions=1))


class TestEncoding:
    def test_gives_back_what_was_written_with_its_places_in_the_log(self) -> None:
        written = [
            record(traceparent="trace"),
            record(seq=2, event=TaskCompleted(parent=0, reference="/x", output="é\n")),
        ]
        [turn] = encode_turns(written)
        first = 7 * TURN_OFFSETS + 1
        read = read_back(turn)
        assert [r.offset for r in read] == [first, first + 1]
        assert [(r.event, r.traceparent, r.version) for r in read] == [
            (r.event, r.traceparent, r.version) for r in written
        ]

    def test_is_readable_without_orchx(self) -> None:
        [turn] = encode_turns([record("é")])
        value = json.loads(turn.value)
        assert (value["epoch"], value["owner"]) == (1, "o")
        assert value["records"][0][-1]["type"] == "task.skipped"

    def test_makes_one_turn_of_what_each_workflow_has(self) -> None:
        turns = encode_turns([record("a"), record("b"), record("a", 2)])
        assert [turn.workflow_id for turn in turns] == ["a", "b"]
        assert [r.seq for r in read_back(turns[0])] == [1, 2]

    def test_tells_of_an_activation_in_the_header(self) -> None:
        activated = record(seq=0, epoch=3, event=WorkflowActivated())
        [turn, other] = encode_turns([activated, record(epoch=3), record("other")])
        assert (turn.activates, list(turn.headers)) == (3, [("activates", b"3")])
        assert (other.activates, list(other.headers)) == (0, [])
        found = turn_of(message(value=turn.value, headers=list(turn.headers)), partitions=1)
        assert found.activates == 3

    def test_the_last_place_of_a_turn_is_before_the_next_turn(self) -> None:
        [turn] = encode_turns([record(seq=n) for n in range(1, TURN_RECORDS_MAX + 1)])
        assert read_back(turn)[-1].offset == 8 * TURN_OFFSETS - 1

    def test_refuses_what_one_kafka_record_cannot_hold(self) -> None:
        with pytest.raises(Bug, match="events in a turn"):
            encode_turns([record(seq=n) for n in range(TURN_RECORDS_MAX + 1)])
        with pytest.raises(Bug, match="two owners"):
            encode_turns([record(), record(owner="other")])
        large = TaskCompleted(parent=0, reference="/x", output="x" * 9_000_000)
        with pytest.raises(Bug, match="bytes"):
            encode_turns([record(event=large)])


class TestPoison:
    [sound] = encode_turns([record(seq=0, event=WorkflowActivated())])

    @pytest.mark.parametrize(
        "changes",
        [
            {"key": None},
            {"key": b""},
            {"key": b"\xff"},
            {"key": b"k" * 2_000},
            {"value": None},
            {"value": b"x" * 9_000_000},
            {"value": b"no JSON"},
            {"value": b"{}"},
            {"value": b'{"epoch":1,"owner":"o","records":[]}'},
            {"value": b'{"epoch":1,"owner":"o","records":[[1,1,null,1,{"type":"what"}]]}'},
            {"value": b'{"epoch":1,"owner":"\xff","records":[[1,1,null,1,{"type":"what"}]]}'},
            {"headers": []},  # an activation that followers would not see
            {"headers": [("activates", b"2")]},
            {"headers": [("activates", b"0")]},
            {"headers": [("activates", b"many")]},
            {"headers": [("activates", None)]},
            {"headers": [("activates", b"9" * 5_000)]},
        ],
        ids=lambda changes: str(changes)[:60],
    )
    def test_is_refused(self, changes: dict[str, object]) -> None:
        with pytest.raises(PoisonedTurn):
            read_back(self.sound, **changes)

    def test_an_epoch_in_a_header_is_believed_only_with_its_event(self) -> None:
        [turn] = encode_turns([record()])
        with pytest.raises(PoisonedTurn):
            turn_of(message(value=turn.value, headers=[("activates", b"1")]), partitions=1)

    def test_other_headers_do_no_harm(self) -> None:
        headers = [("trace", b"1"), *self.sound.headers]
        assert read_back(self.sound, headers=headers)

    def test_a_workflow_is_in_its_own_partition_only(self) -> None:
        homes = [number for number in range(3) if self._stands_in(number)]
        assert homes == [partition_of("w", 3)]

    def _stands_in(self, partition: int) -> bool:
        headers = list(self.sound.headers)
        found = message(partition=partition, value=self.sound.value, headers=headers)
        try:
            turn_of(found, partitions=3)
        except PoisonedTurn as error:
            assert "partition is" in str(error)  # noqa: PT017  one of three is not raised
            return False
        return True


class TestNewerReleases:
    """What they wrote is neither read nor passed over."""

    def test_their_records_are_told_from_poison(self) -> None:
        [turn] = encode_turns([record(version=SCHEMA_VERSION + 1)])
        with pytest.raises(NewerTurn, match=f"schema version {SCHEMA_VERSION + 1} of w"):
            read_back(turn)

    @pytest.mark.parametrize("event", [b'{"type":"never.heard"}', b"[1]"])
    def test_even_where_nothing_else_is_understood(self, event: bytes) -> None:
        value = b'{"epoch":1,"owner":"o","new":0,"records":[[1,5,null,2,%b,"more"]]}' % event
        with pytest.raises(NewerTurn):
            records_of(turn_of(message(value=value), partitions=1))

    def test_their_activations_fence(self) -> None:
        activated = record(seq=0, epoch=3, event=WorkflowActivated(), version=2)
        [turn] = encode_turns([activated])
        found = turn_of(message(value=turn.value, headers=list(turn.headers)), partitions=1)
        assert found.activates == 3
        with pytest.raises(NewerTurn):
            records_of(found)
