"""An event log on Kafka with topics of its own, and the processes that use it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from kafka.consumer.fetcher import ConsumerRecord

from orchx.adapters.kafka_connection import Topics, partition_of
from orchx.adapters.kafka_event_log import KafkaEventLog
from orchx.adapters.kafka_writer import KafkaWriter, Outgoing
from orchx.domain.events import Record, TaskCompleted, TaskSkipped
from orchx.ports.archive import Archive
from orchx.ports.event_log import Claim
from orchx.settings import KafkaSettings

PARTITIONS = 3
FIRST = TaskSkipped(parent=0, reference="/do/0/first")
SECOND = TaskSkipped(parent=0, reference="/do/1/second")


def record(workflow_id: str, seq: int, **changes: object) -> Record:
    event = TaskCompleted(parent=0, reference=f"/do/{seq}")
    fields = {"epoch": 1, "owner": "o", "at_ms": 1000 + seq, "event": event, **changes}
    return Record(workflow_id=workflow_id, seq=seq, **fields)  # type: ignore[arg-type]


def claim(workflow_id: str, owner: str = "o", **changes: object) -> Claim:
    fields = {"at_ms": 5, "opening": (FIRST, SECOND), **changes}
    return Claim(workflow_id=workflow_id, owner=owner, **fields)  # type: ignore[arg-type]


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110  what is awaited has no event
            await asyncio.sleep(0.01)


class Installation:
    """Topics of this test's own, and the processes that use them."""

    def __init__(self, settings: KafkaSettings) -> None:
        self.settings = settings
        self.topic = Topics(settings.topic_prefix).events
        self._logs: list[KafkaEventLog] = []
        self._writer = KafkaWriter(settings, "stranger")

    def log(
        self,
        archive: Archive | None = None,
        on_poison: Callable[[ConsumerRecord, str], None] | None = None,
        **changes: object,
    ) -> KafkaEventLog:
        settings = self.settings.model_copy(update=changes)
        self._logs.append(KafkaEventLog(settings, archive, on_poison=on_poison))
        return self._logs[-1]

    async def write(
        self, key: bytes | None, value: bytes | None, *headers: tuple[str, bytes]
    ) -> None:
        """Write something to the log's topic that no log would, to the partition of "w"."""
        partition = partition_of("w", self.settings.partitions)
        stranger = Outgoing(
            topic=self.topic, partition=partition, key=key, value=value, headers=headers
        )
        await self._writer.send([stranger])

    async def close(self) -> None:
        for log in self._logs:
            await log.close()
        await self._writer.close()


async def whole(log: KafkaEventLog, partition: int, limit: int = 1000) -> list[Record]:
    found: list[Record] = []
    await log.last_offset(partition)
    offset = 0
    while page := await log.tail(offset, limit=limit, partition=partition):
        found += page
        offset = page[-1].offset
    return found


async def archive_all(log: KafkaEventLog, archive: Archive) -> None:
    for partition in range(await log.partitions()):
        records = await whole(log, partition)
        last = await log.last_offset(partition)
        await archive.add(records, offset=last, partition=partition)
