"""Copying records from one topic to another, in order."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Final, TypeAlias

from kafka.consumer.fetcher import ConsumerRecord

from orchx.adapters.kafka_command_reader import KafkaCommandReader
from orchx.adapters.kafka_topic_bounds import Bounds
from orchx.adapters.kafka_writer import KafkaWriter, Outgoing
from orchx.errors import DriverError
from orchx.settings import KafkaSettings

POLL_WAIT_MS: Final = 500
EMPTY_POLLS_MAX: Final = 60

Moved: TypeAlias = Callable[[ConsumerRecord], Sequence[Outgoing]]
"""Returns what becomes of a record; nothing: it is left behind."""


async def copy_records(
    settings: KafkaSettings,
    topic: str,
    bounds: Bounds,
    moved: Moved,
    writer: KafkaWriter,
    told: Callable[[int], None],
) -> Mapping[int, int]:
    """Copy what stands within the bounds of a topic; nobody else may write where it goes.

    What `moved` puts into one partition keeps the order that it had in its own: each batch is
    durable before the next is sent.

    Args:
        settings: where Kafka is.
        topic: what is read.
        bounds: from where to where.
        moved: what becomes of a record, called in a thread.
        writer: writes.
        told: hears how many records were read so far.

    Returns:
        of each partition that was written to, how many records were.

    Raises:
        DriverError, Unavailable: the copy is not whole.
    """
    written: dict[int, int] = {}
    left = {p: end for p, end in bounds.end.items() if bounds.first[p] < end}
    if not left:
        return written
    reader = KafkaCommandReader(settings, topic, "copy")
    read = empty = 0
    sending: asyncio.Task[Sequence[int]] | None = None
    try:
        await reader.follow({partition: bounds.first[partition] for partition in left})
        while left:
            batch = await reader.poll(moved, POLL_WAIT_MS)
            outgoing = [record for records in batch.items for record in records]
            if sending is not None:
                await sending
            sending = asyncio.create_task(_send(writer, outgoing))
            for record in outgoing:
                written[record.partition] = written.get(record.partition, 0) + 1
            read += len(batch.items)
            told(read)
            for partition, following in batch.next_offsets.items():
                if following >= left.get(partition, following + 1):
                    del left[partition]
            empty = 0 if batch.items else empty + 1
            if empty > EMPTY_POLLS_MAX:
                raise DriverError(f"{topic} was not read to its end: partitions {sorted(left)}")
        if sending is not None:
            await sending
    finally:
        if sending is not None:
            await asyncio.wait([sending])
        await reader.close()
    return written


async def _send(writer: KafkaWriter, records: Sequence[Outgoing]) -> Sequence[int]:
    return await writer.send(records)
