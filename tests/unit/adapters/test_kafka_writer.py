"""When the writer hands records to its producer: at once, or together under load."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from orchx.adapters import kafka_writer
from orchx.adapters.kafka_writer import KafkaWriter, Outgoing, _Generation
from orchx.errors import DriverError
from orchx.settings import KafkaSettings


class Producer:
    """Acknowledges when it is told to."""

    def __init__(self) -> None:
        self.values: list[bytes] = []
        self._callbacks: list[Callable[[Any], None]] = []
        self.acknowledged = 0

    def send(self, topic: str, *, value: bytes, **_: Any) -> Any:
        self.values.append(value)
        return SimpleNamespace(add_callback=self._callbacks.append, add_errback=lambda _: None)

    def acknowledge(self) -> None:
        for callback in self._callbacks[self.acknowledged :]:
            callback(SimpleNamespace(offset=self.acknowledged))
            self.acknowledged += 1

    def close(self, timeout: float) -> None:
        pass


class Writer(KafkaWriter):
    def __init__(self, **options: Any) -> None:
        super().__init__(KafkaSettings(), "test", **options)
        self.producer = Producer()
        self._generation = self.made = _Generation(self.producer)  # type: ignore[arg-type]
        self.made.idle.set()

    async def _generation_for(self, topics: set[str]) -> _Generation:
        return self.made


def outgoing(value: int) -> Outgoing:
    return Outgoing(topic="t", partition=0, key=b"k", value=b"%d" % value)


async def settled() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_what_comes_now_and_then_is_sent_at_once() -> None:
    writer = Writer()
    sending = [asyncio.create_task(writer.send([outgoing(n)])) for n in range(3)]
    await settled()
    assert writer.producer.values == [b"0", b"1", b"2"]
    writer.producer.acknowledge()
    assert await asyncio.gather(*sending) == [[0], [1], [2]]
    await writer.close()


async def test_what_comes_under_load_waits_for_more_and_keeps_its_order(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(kafka_writer, "COUNT_S", 0.0)  # the rate is that of the last call
    monkeypatch.setattr(kafka_writer, "LINGER_S", 60.0)
    writer = Writer(busy_per_s=1)
    sending = [asyncio.create_task(writer.send([outgoing(n)])) for n in range(4)]
    await settled()
    assert writer.producer.values == [b"0"]  # nothing was known of a rate yet
    writer._busy_per_s = math.inf  # the next one finds that it need not wait: nor do the others
    sending.append(asyncio.create_task(writer.send([outgoing(4)])))
    await settled()
    assert writer.producer.values == [b"0", b"1", b"2", b"3", b"4"]
    writer.producer.acknowledge()
    assert await asyncio.gather(*sending) == [[0], [1], [2], [3], [4]]
    await writer.close()


async def test_what_waits_when_the_producer_is_replaced_fails_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(kafka_writer, "COUNT_S", 0.0)
    monkeypatch.setattr(kafka_writer, "LINGER_S", 60.0)
    writer = Writer(busy_per_s=1)
    sending = [asyncio.create_task(writer.send([outgoing(n)])) for n in range(2)]
    await settled()
    writer.made.retired = True  # as after a record that was lost
    writer._produce()
    await settled()
    assert writer.producer.values == [b"0"]
    with pytest.raises(DriverError):
        await sending[1]
    writer.producer.acknowledge()
    assert await sending[0] == [0]
    assert writer.bytes_in_flight == 0
    await writer.close()


async def test_what_waits_is_sent_before_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kafka_writer, "COUNT_S", 0.0)
    monkeypatch.setattr(kafka_writer, "LINGER_S", 60.0)
    writer = Writer(busy_per_s=1)
    sending = [asyncio.create_task(writer.send([outgoing(n)])) for n in range(2)]
    await settled()
    assert writer.producer.values == [b"0"]
    closing = asyncio.create_task(writer.close())
    await settled()
    assert writer.producer.values == [b"0", b"1"]
    writer.producer.acknowledge()
    assert await asyncio.gather(*sending) == [[0], [1]]
    await closing
