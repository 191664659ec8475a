"""What a process writes itself is in its window without being read, and nothing else changes."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchx.adapters import kafka_log_follower
from orchx.adapters.kafka_log_follower import KafkaLogFollower
from orchx.adapters.kafka_log_reader import Batch
from orchx.adapters.kafka_log_window import TURN_COST_BYTES
from orchx.domain.events import Record, WorkflowActivated
from orchx.errors import Unavailable
from orchx.settings import KafkaSettings
from orchx.testing.memory_archive import MemoryArchive
from tests.unit.adapters.log_reader_stubs import SKIPPED, Ends, Reader, encoded, message


class Follower(KafkaLogFollower):
    def __init__(self, archive: MemoryArchive | None = None, **settings: int) -> None:
        super().__init__(KafkaSettings().model_copy(update=settings), Ends(0), archive)
        self.reader = self._reader = Reader()

    def wrote_at(self, *offsets: int) -> None:
        for offset in offsets:
            self.wrote(encoded(offset), 0, offset)

    def read(self, first: int, following: int) -> None:
        stand = self.reader.seeks[-1][1] if self.reader.seeks else 0
        messages = [message(offset) for offset in range(first, following)]
        self.receive([Batch(0, messages, following, stand)])

    @property
    def offsets(self) -> Sequence[int]:
        return [turn.offset for turn in self.window.turns("w")]

    def is_urgent(self) -> bool:
        return self.reader.urgent

    def is_paused(self) -> bool:
        return self.reader.paused

    def known(self) -> Mapping[int, int] | None:
        return self.reader.known

    async def is_at(self, target: int) -> bool:
        """Return whether all before this is there, without anybody's waiting."""
        reached = asyncio.ensure_future(self.reach({0: target}))
        await asyncio.sleep(0)
        done = reached.done()
        reached.cancel()
        await asyncio.wait((reached,))
        return done


async def started(archive: MemoryArchive | None = None, **settings: int) -> Follower:
    follower = Follower(archive, **settings)
    await follower.reach({0: 0})
    return follower


async def test_own_turns_need_not_be_read() -> None:
    follower = await started()
    follower.wrote_at(0, 1)
    follower.wrote(encoded(2, activates=True), 0, 2)
    await follower.reach({0: 3})
    assert not follower.is_urgent()
    assert follower.offsets == [0, 1, 2]
    assert follower.window.epoch("w") == 1


async def test_what_others_wrote_between_is_read_before_own_turns_count() -> None:
    follower = await started()
    follower.wrote_at(0, 2, 3)
    waiting = asyncio.ensure_future(follower.reach({0: 4}))
    await asyncio.sleep(0)
    assert follower.is_urgent()
    assert follower.offsets == [0]
    follower.read(1, 2)
    await waiting
    assert not follower.is_urgent()
    assert follower.offsets == [0, 1, 2, 3]


async def test_own_turns_that_were_read_first_are_there_once() -> None:
    follower = await started()
    follower.read(0, 2)
    follower.wrote_at(0, 1)
    follower.wrote_at(3)
    follower.read(1, 5)
    follower.wrote_at(4)
    assert follower.offsets == [0, 1, 2, 3, 4]
    assert not follower._own_bytes


async def test_reads_rarely_while_all_that_is_waited_for_is_its_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    follower = await started()
    follower.read(0, 1)
    follower.wrote_at(1)
    assert follower.known() == {0: 2}
    waiting = asyncio.ensure_future(follower.reach({0: 3}))
    await asyncio.sleep(0)
    assert follower.known() is None
    follower.read(2, 3)
    await waiting
    assert follower.known() is None  # others may write more
    monkeypatch.setattr(follower, "_read_until_s", 0.0)
    follower.read(3, 4)
    assert follower.known() == {0: 4}


async def test_own_turns_that_wait_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    each = len(encoded(5).value) + TURN_COST_BYTES
    monkeypatch.setattr(kafka_log_follower, "OWN_BYTES_MAX", 3 * each)
    follower = await started()
    follower.wrote_at(5, 6, 7)
    assert len(follower._own[0]) == 3
    follower.wrote_at(8)
    assert not follower._own
    follower.read(0, 9)
    assert follower.offsets == list(range(9))


async def test_a_full_window_takes_own_turns_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    archive = MemoryArchive()
    follower = await started(archive, window_bytes=600)
    follower.wrote_at(0, 1, 2)
    assert follower.offsets == [0, 1]
    assert follower.is_paused()
    monkeypatch.setattr(kafka_log_follower, "REACH_S", 0.01)
    with pytest.raises(Unavailable, match="WINDOW_BYTES"):
        await follower.reach({0: 3})
    fields = {"epoch": 1, "owner": "o", "at_ms": 0, "event": SKIPPED}
    records = [Record(workflow_id="w", seq=n, offset=n * 4096 + 1, **fields) for n in range(2)]  # type: ignore[arg-type]
    await archive.add(records, offset=2 * 4096, partition=0)
    await follower.trim()
    assert not follower.is_paused()
    follower.read(2, 3)
    assert follower.offsets == [2]
    await follower.close()


async def test_what_readers_skip_is_not_taken_from_the_writer_either() -> None:
    follower = await started()
    turn = encoded(0, activates=True)
    follower.wrote(type(turn)("w" * 2_000, turn.value, turn.activates), 0, 0)
    assert not await follower.is_at(1)
    assert WorkflowActivated.__name__ not in str(follower.window.turns("w"))


@given(
    steps=st.lists(
        st.sampled_from(["own", "other", "land", "read", "pass over", "late read", "wait"]),
        max_size=60,
    )
)
def test_in_whatever_order_the_window_holds_every_turn_once(steps: Sequence[str]) -> None:
    async def run() -> None:
        follower = await started()
        topic: list[bool] = []  # of each offset, whether it is this process's own
        landed = following = 0
        late: list[tuple[int, int]] = []
        waiting: dict[int, asyncio.Future[None]] = {}
        for step in steps:
            match step:
                case "own" | "other":
                    topic.append(step == "own")
                case "land":  # in the order of the partition
                    while landed < len(topic) and not topic[landed]:
                        landed += 1
                    if landed < len(topic):
                        follower.wrote_at(landed)
                        landed += 1
                case "read":  # one that is handed over later
                    if following < len(topic):
                        late.append((following, len(topic)))
                        following = len(topic)
                case "pass over":
                    following = max(following, follower._positions[0])
                case "late read":
                    if late:
                        follower.read(*late.pop(0))
                case "wait":
                    waiting[len(topic)] = asyncio.ensure_future(follower.reach({0: len(topic)}))
                    await asyncio.sleep(0)
        position = follower._positions[0]
        assert list(follower.offsets) == list(range(position))
        assert await follower.is_at(position)
        assert not await follower.is_at(position + 1)
        await asyncio.sleep(0)
        assert follower.is_urgent() == any(target > position for target in waiting)
        for batch in late:
            follower.read(*batch)
        if following < len(topic):
            follower.read(following, len(topic))
        assert list(follower.offsets) == list(range(len(topic)))
        await asyncio.gather(*waiting.values())
        assert not follower.is_urgent()

    asyncio.run(run())
