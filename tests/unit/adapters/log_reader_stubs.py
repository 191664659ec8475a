"""A topic of one partition, of which a test hands over what is read."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from kafka.consumer.fetcher import ConsumerRecord

from orchx.adapters.kafka_end_offsets import EndOffsets
from orchx.adapters.kafka_log_reader import KafkaLogReader
from orchx.adapters.kafka_records import EncodedTurn, encode_turns
from orchx.domain.events import SCHEMA_VERSION, Record, TaskSkipped, WorkflowActivated

SKIPPED = TaskSkipped(parent=0, reference="/do/0")


class Ends(EndOffsets):
    """A topic of one partition that ends at `end`."""

    def __init__(self, end: int) -> None:
        self.end = end

    async def partitions(self) -> int:
        return 1

    async def of(self, partitions: Collection[int]) -> Mapping[int, int]:
        return dict.fromkeys(partitions, self.end)


class Reader(KafkaLogReader):
    """Notes what it is asked for; the test hands over."""

    def __init__(self) -> None:
        self.seeks: list[tuple[int, int]] = []
        self.paused = True
        self.urgent = False
        self.known = None
        self.gone_on = 0

    def start(self, offsets: Mapping[int, int], *, paused: Sequence[int] = ()) -> None:
        pass

    def seek(self, partition: int, offset: int, stand: int) -> None:
        self.seeks.append((offset, stand))

    def pause(self, partitions: Sequence[int], *, paused: bool) -> None:
        self.paused = paused

    def hurry(self, urgent: bool) -> None:
        self.urgent = urgent

    def go_on(self) -> None:
        self.gone_on += 1

    async def close(self) -> None:
        pass


def encoded(
    offset: int, records: int = 1, version: int = SCHEMA_VERSION, *, activates: bool = False
) -> EncodedTurn:
    """Return the turn that stands at an offset: its records say so in their time."""
    event = WorkflowActivated() if activates else SKIPPED
    fields = {"epoch": 1, "owner": "o", "at_ms": offset, "event": event, "version": version}
    [turn] = encode_turns(
        Record(workflow_id="w", seq=seq, **fields)  # type: ignore[arg-type]
        for seq in range(records)
    )
    return turn


def message(offset: int, records: int = 1, version: int = SCHEMA_VERSION) -> ConsumerRecord:
    """Return what a consumer reads where that turn stands."""
    value = encoded(offset, records, version).value
    return ConsumerRecord("t.events", 0, 0, offset, 0, 0, b"w", value, [], None, 1, len(value), 0)
