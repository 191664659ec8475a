"""Appending turns to the log's topic, each to the partition of its workflow."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence

from orchx.adapters.kafka_connection import Topics, partition_of
from orchx.adapters.kafka_end_offsets import EndOffsets
from orchx.adapters.kafka_records import EncodedTurn
from orchx.adapters.kafka_writer import KafkaWriter, Outgoing
from orchx.settings import KafkaSettings


class KafkaLogAppender:
    """Writes turns, and knows how far the log reaches at least because of them."""

    def __init__(
        self,
        settings: KafkaSettings,
        writer: KafkaWriter,
        ends: EndOffsets,
        reaches: Callable[[Mapping[int, int]], None],
        wrote: Callable[[EncodedTurn, int, int], None],
    ) -> None:
        """Write with `writer`.

        Args:
            settings: say what the topic is called.
            writer: with which turns are written.
            ends: asks where partitions end.
            reaches: hears where partitions end at least.
            wrote: hears of each turn that is durable, with its partition and Kafka offset, in
                the order of the partition.
        """
        self._topic = Topics(settings.topic_prefix).events
        self._writer = writer
        self._ends = ends
        self._reaches = reaches
        self._wrote = wrote
        self.own_ends: dict[int, int] = {}
        """Kafka's offset behind the last turn that this process wrote, by partition."""

    async def partition_of(self, workflow_id: str) -> int:
        """Return where the workflow's turns stand."""
        return partition_of(workflow_id, await self._ends.partitions())

    async def ends(self, partitions: Collection[int]) -> Mapping[int, int]:
        """Return where the partitions end, as of this call, in Kafka's offsets.

        Raises:
            DriverError: Kafka did not tell in time.
        """
        found = await self._ends.of(partitions)
        # What this process wrote is there: Tansu 0.6 tells the start of the last batch.
        ends = {each: max(found[each], self.own_ends.get(each, 0)) for each in partitions}
        self._reaches(ends)
        return ends

    async def append(self, turns: Sequence[EncodedTurn]) -> Sequence[tuple[int, int]]:
        """Write turns; return the partition and the Kafka offset of each once all are durable.

        Raises:
            Unavailable, DriverError: as `KafkaWriter.send`.
        """
        count = await self._ends.partitions()
        records = [
            Outgoing(
                topic=self._topic,
                partition=partition_of(turn.workflow_id, count),
                key=turn.workflow_id.encode(),
                value=turn.value,
                headers=turn.headers,
            )
            for turn in turns
        ]

        def landed(place: int, offset: int) -> None:
            self._wrote(turns[place], records[place].partition, offset)

        offsets = await self._writer.send(records, landed)
        places = [(r.partition, offset) for r, offset in zip(records, offsets, strict=True)]
        for partition, offset in places:
            self.own_ends[partition] = max(offset + 1, self.own_ends.get(partition, 0))
        self._reaches(self.own_ends)
        return places
