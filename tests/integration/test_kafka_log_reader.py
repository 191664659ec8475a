"""A partition that was paused in the middle of what was fetched of it is read to its end."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from orchx.adapters import kafka_log_reader
from orchx.adapters.kafka_log_reader import RECORDS_PER_POLL, Batch, KafkaLogReader
from orchx.adapters.kafka_writer import KafkaWriter, Outgoing
from orchx.errors import OrchxError
from tests.integration.kafka_installation import Installation, until

MANY = RECORDS_PER_POLL + RECORDS_PER_POLL // 2  # more than one poll brings, in one fetch


class Reading:
    """Pauses the first partition that comes as soon as some of it has come."""

    def __init__(self) -> None:
        self.reader: KafkaLogReader | None = None
        self.paused: int | None = None
        self.following = {0: 0, 1: 0}

    def receive(self, batches: Sequence[Batch]) -> None:
        for batch in batches:
            self.following[batch.partition] = batch.following
            if self.paused is None:
                self.paused = batch.partition
                assert self.reader is not None
                self.reader.pause([self.paused], paused=True)

    def failed(self, error: OrchxError) -> None:
        raise error


async def test_a_partition_that_was_paused_is_read_on(
    here: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kafka_log_reader, "BACKLOG_BYTES_MAX", 0)  # nothing is polled ahead
    writer = KafkaWriter(here.settings, "test")
    await writer.send(
        [
            Outgoing(topic=here.topic, partition=partition, key=b"k", value=b"v")
            for partition in (0, 1)
            for _ in range(MANY)
        ]
    )
    await writer.close()
    reading = Reading()
    reader = reading.reader = KafkaLogReader(here.settings, here.topic, "test", reading)
    reader.start(dict.fromkeys((0, 1), 0))
    await until(lambda: reading.paused is not None)
    assert reading.paused is not None
    other = 1 - reading.paused
    await until(lambda: reading.following[other] == MANY)
    assert reading.following[reading.paused] < MANY
    reader.pause([reading.paused], paused=False)
    await until(lambda: reading.following[reading.paused] == MANY)  # type: ignore[index]
    await reader.close()


async def test_what_is_known_is_passed_over_while_nobody_waits(here: Installation) -> None:
    writer = KafkaWriter(here.settings, "test")
    outgoing = Outgoing(topic=here.topic, partition=0, key=b"k", value=b"v")
    await writer.send([outgoing] * 5)
    seen: list[int] = []

    class Noting(Reading):
        def receive(self, batches: Sequence[Batch]) -> None:
            seen.extend(each.offset for batch in batches for each in batch.messages)

    reader = KafkaLogReader(here.settings, here.topic, "test", Noting())
    reader.known = {0: 3}
    reader.start({0: 0})
    await until(lambda: seen == [3, 4])
    reader.known = {0: 9}
    reader.hurry(urgent=True)
    await writer.send([outgoing] * 2)
    await until(lambda: seen == [3, 4, 5, 6])  # somebody waits for what was not known there
    await writer.close()
    await reader.close()
