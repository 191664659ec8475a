"""Pages of the log, from what a reader hands over."""

from __future__ import annotations

import pytest
from kafka.consumer.fetcher import ConsumerRecord

from orchx.adapters import kafka_log_tail
from orchx.adapters.kafka_log_reader import Batch
from orchx.adapters.kafka_log_tail import KafkaLogTail, OnPoison
from orchx.adapters.kafka_records import TURN_OFFSETS, NewerTurn
from orchx.domain.events import SCHEMA_VERSION
from orchx.errors import Unavailable
from orchx.settings import KafkaSettings
from tests.unit.adapters.log_reader_stubs import Ends, Reader, message


class Tail(KafkaLogTail):
    def __init__(self, end: int, on_poison: OnPoison | None = None) -> None:
        super().__init__(KafkaSettings(), Ends(end), on_poison)
        self.reader = self._reader = Reader()

    def hand_over(self, *messages: ConsumerRecord) -> None:
        following = messages[-1].offset + 1
        self.receive([Batch(0, messages, following, self.reader.seeks[-1][1])])

    async def at(self, after_offset: int, limit: int = 100) -> list[int]:
        """Return when the records of the next page were written: their turn's offset."""
        page = await self.page(after_offset, limit=limit, partition=0)
        return [record.at_ms for record in page]


async def test_an_empty_log_has_an_empty_page() -> None:
    assert await Tail(0).at(0) == []


async def test_pages_go_on_from_what_was_read_ahead() -> None:
    tail = Tail(0)
    await tail.at(0)
    tail.hand_over(message(0, records=3), message(1), message(2))
    first = await tail.page(0, limit=2, partition=0)
    assert await tail.at(first[-1].offset, limit=2) == [0, 1]
    assert await tail.at(1 * TURN_OFFSETS + 1) == [2]
    assert await tail.at(2 * TURN_OFFSETS + 1) == []
    assert len(tail.reader.seeks) == 1
    assert tail.reader.gone_on == 5  # with every page: the reader's pause is long


async def test_going_back_seeks_and_ignores_what_was_on_its_way() -> None:
    tail = Tail(3)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(kafka_log_tail, "FETCH_S", 0.01)
        with pytest.raises(Unavailable):
            await tail.at(2 * TURN_OFFSETS)  # starts there; nothing comes
        with pytest.raises(Unavailable):
            await tail.at(0)
    assert tail.reader.seeks == [(2, 1), (0, 2)]
    tail.receive([Batch(0, [message(2)], 3, 1)])
    tail.hand_over(message(0), message(1), message(2))
    assert await tail.at(0) == [0, 1, 2]


async def test_stops_reading_while_its_buffer_is_full(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kafka_log_tail, "BUFFER_BYTES_MAX", 2_000)
    tail = Tail(0)
    await tail.at(0)
    states = [tail.reader.paused]
    tail.hand_over(*(message(offset) for offset in range(6)))
    states.append(tail.reader.paused)
    assert await tail.at(5 * TURN_OFFSETS) == [5]
    states.append(tail.reader.paused)
    assert states == [False, True, False]


async def test_poison_fills_no_buffer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody ever asks for what is behind it: it would stay, and nothing more would be read."""
    monkeypatch.setattr(kafka_log_tail, "BUFFER_BYTES_MAX", 2_000)
    told: list[int] = []
    tail = Tail(0, lambda message, _: told.append(message.offset))
    await tail.at(0)
    tail.hand_over(*(message(offset)._replace(value=b"junk") for offset in range(6)))
    states = [tail.reader.paused]
    assert await tail.at(0) == []
    states.append(tail.reader.paused)
    assert states == [True, False]
    tail.hand_over(message(6))
    assert await tail.at(0) == [6]
    assert told == list(range(6))


async def test_hurries_only_while_it_is_behind() -> None:
    tail = Tail(0)
    await tail.at(0)
    tail.hand_over(message(0))
    assert not tail.reader.urgent
    tail.reaches({0: 3})
    tail.hand_over(message(1))
    assert tail.reader.urgent


async def test_nobody_goes_on_behind_what_a_newer_release_wrote() -> None:
    told: list[str] = []
    tail = Tail(0, lambda message, reason: told.append(reason))
    await tail.at(0)
    tail.hand_over(message(0), message(1, version=SCHEMA_VERSION + 1), message(2))
    assert await tail.at(0) == [0]
    for _ in range(2):
        with pytest.raises(NewerTurn, match="install the newer release"):
            await tail.at(1)
    assert not told
