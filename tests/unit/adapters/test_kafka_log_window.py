"""The end of the log in memory, and how it joins with the archive."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest

from orchx.adapters.kafka_log_histories import KafkaLogHistories
from orchx.adapters.kafka_log_window import TURN_COST_BYTES, LogWindow
from orchx.adapters.kafka_records import TURN_OFFSETS, Turn, encode_turns, records_of
from orchx.domain.events import AnyEvent, Record, TaskSkipped, WorkflowActivated
from orchx.errors import Unavailable
from orchx.testing.memory_archive import MemoryArchive

SKIPPED = TaskSkipped(parent=0, reference="/do/0")


def turn(workflow_id: str, offset: int, *, epoch: int = 1, activates: bool = False) -> Turn:
    event: AnyEvent = WorkflowActivated() if activates else SKIPPED
    written = Record(
        workflow_id=workflow_id, epoch=epoch, owner="o", seq=offset, at_ms=1, event=event
    )
    [encoded] = encode_turns([written])
    return Turn(0, offset, workflow_id, encoded.value, encoded.activates)


def offsets(records: Sequence[Record]) -> list[int]:
    return [record.offset // TURN_OFFSETS for record in records]


def window_of(*turns: Turn) -> LogWindow:
    window = LogWindow()
    for each in turns:
        window.add(each)
    return window


async def archive_of(*turns: Turn) -> MemoryArchive:
    archive = MemoryArchive()
    for each in turns:
        records = records_of(each)
        await archive.add(records, offset=records[-1].offset, partition=0)
    return archive


class TestWindow:
    def test_keeps_turns_by_workflow(self) -> None:
        window = window_of(turn("a", 0), turn("b", 1), turn("a", 2))
        assert [t.offset for t in window.turns("a")] == [0, 2]
        assert window.turns("c") == ()
        assert len(window) == 3

    def test_begins_a_partition_anew_without_what_stood_there(self) -> None:
        window = window_of(turn("a", 0), turn("b", 1, epoch=2, activates=True))
        window.remember("b", 2)
        window.mark_whole("b")
        window.restart(0, 7)
        assert len(window) == 0
        assert window.bytes == 0
        assert window.epoch("b") == 0
        assert window.remembered("b") is None
        assert not window.is_whole("b")
        assert window.joins({0: 7 * TURN_OFFSETS})
        assert not window.joins({0: 7 * TURN_OFFSETS - 1})
        window.add(turn("b", 7))
        assert [t.offset for t in window.turns("b")] == [7]

    def test_knows_the_highest_epoch(self) -> None:
        window = window_of(
            turn("a", 0, epoch=3, activates=True),
            turn("a", 1, epoch=2, activates=True),
            turn("a", 2, epoch=9),
        )
        assert window.epoch("a") == 3
        assert window.epoch("b") == 0

    def test_what_is_trimmed_takes_no_room(self) -> None:
        turns = [turn("a", offset) for offset in range(4)]
        window = window_of(*turns)
        assert window.bytes == sum(len(t.value) + TURN_COST_BYTES for t in turns)
        window.trim({0: 3 * TURN_OFFSETS})
        assert [t.offset for t in window.turns("a")] == [3]
        window.trim({0: 4 * TURN_OFFSETS})
        assert window.bytes == 0
        assert window.epoch("a") == 0

    def test_a_turn_that_is_archived_in_part_stays(self) -> None:
        window = window_of(turn("a", 0), turn("a", 1))
        window.trim({0: 1 * TURN_OFFSETS + 1})
        assert [t.offset for t in window.turns("a")] == [1]

    def test_other_partitions_are_not_trimmed(self) -> None:
        window = window_of(turn("a", 0))
        window.trim({1: 5 * TURN_OFFSETS})
        assert len(window) == 1

    def test_what_is_held_stays_until_it_is_not(self) -> None:
        window = window_of(turn("a", 0), turn("b", 1), turn("c", 2))
        with window.holding("b"), window.holding("b"):
            window.trim({0: 9 * TURN_OFFSETS})
            assert [len(window.turns(each)) for each in "abc"] == [0, 1, 1]
        window.trim({0: 9 * TURN_OFFSETS})
        assert len(window) == 0

    def test_remembered_epochs_grow_with_the_log_and_outlive_trimming(self) -> None:
        window = window_of(turn("a", 0, epoch=1, activates=True))
        assert window.remembered("a") is None
        window.remember("a", 1)
        window.add(turn("a", 1, epoch=4, activates=True))
        window.trim({0: 9 * TURN_OFFSETS})
        assert window.remembered("a") == 4

    def test_remembers_so_many_the_latest_used(self) -> None:
        window = LogWindow(epochs_max=2)
        window.remember("a", 1)
        window.remember("b", 1)
        window.remembered("a")
        window.remember("c", 1)
        assert [window.remembered(each) for each in "abc"] == [1, None, 1]

    def test_is_whole_until_something_of_it_is_trimmed(self) -> None:
        window = window_of(turn("a", 0), turn("a", 1))
        window.mark_whole("a")
        assert window.is_whole("a")
        window.trim({0: 1 * TURN_OFFSETS})
        assert not window.is_whole("a")


class TestHistories:
    async def test_join_archive_and_window_without_holes_or_doubles(self) -> None:
        turns = [turn("a", offset) for offset in range(6)]
        archive = await archive_of(*turns[:4])  # two are in both
        histories = KafkaLogHistories(window_of(*turns[2:]), archive)
        assert offsets(await histories.read("a")) == [0, 1, 2, 3, 4, 5]
        assert offsets(await histories.read("a", until=4)) == [0, 1, 2, 3]
        assert offsets(await histories.read("a", until=1)) == [0]

    async def test_are_read_in_pages(self) -> None:
        turns = [turn("a", offset) for offset in range(7)]
        histories = KafkaLogHistories(window_of(*turns[4:]), await archive_of(*turns[:5]))
        found: list[Record] = []
        while page := await histories.read(
            "a", after_offset=found[-1].offset if found else 0, limit=2
        ):
            assert len(page) <= 2
            found += page
        assert offsets(found) == list(range(7))
        assert await histories.read("a", limit=0) == []

    async def test_are_the_archives_where_the_window_has_nothing(self) -> None:
        histories = KafkaLogHistories(LogWindow(), await archive_of(turn("a", 0), turn("a", 1)))
        assert offsets(await histories.read("a")) == [0, 1]
        assert await histories.read("b") == []

    async def test_need_no_archive_for_what_is_whole(self) -> None:
        window = window_of(turn("a", 3, epoch=2, activates=True))
        window.mark_whole("a")
        histories = KafkaLogHistories(window, Unreachable())
        assert offsets(await histories.read("a")) == [3]
        assert await histories.epochs(["a"]) == {"a": 2}
        assert (await histories.standing("a")).epoch == 2

    async def test_skip_a_poisoned_turn(self) -> None:
        window = window_of(turn("a", 0), Turn(0, 1, "a", b"poison", 0), turn("a", 2))
        assert offsets(await KafkaLogHistories(window, None).read("a")) == [0, 2]

    async def test_tell_the_highest_epoch_of_all_that_know_one(self) -> None:
        archive = await archive_of(
            turn("archived", 0, epoch=3, activates=True),
            turn("both", 1, epoch=1, activates=True),
            turn("unclaimed", 2),
        )
        window = window_of(turn("both", 5, epoch=2, activates=True))
        window.remember("claimed", 7)
        histories = KafkaLogHistories(window, archive)
        ids = ["archived", "both", "unclaimed", "claimed", "nobody"]
        assert await histories.epochs(ids) == {"archived": 3, "both": 2, "claimed": 7}
        standings = [await histories.standing(each) for each in ids]
        assert [s.epoch for s in standings] == [3, 2, 0, 7, 0]
        assert [s.known for s in standings] == [True, True, True, True, False]

    async def test_see_what_is_trimmed_while_the_archive_answers(self) -> None:
        """The archive was asked before the turn was there, and answers after it was cut off."""
        window = LogWindow()

        class Slow(MemoryArchive):
            async def epochs(self, workflow_ids: Sequence[str]) -> Mapping[str, int]:
                window.add(turn("a", 0, epoch=5, activates=True))
                window.trim({0: 9 * TURN_OFFSETS})
                return {}

        assert await KafkaLogHistories(window, Slow()).epochs(["a"]) == {"a": 5}

    async def test_ask_the_archive_once_and_remember_what_it_said(self) -> None:
        window = LogWindow()
        archive = await archive_of(turn("a", 0, epoch=3, activates=True))
        assert await KafkaLogHistories(window, archive).epochs(["a"]) == {"a": 3}
        assert await KafkaLogHistories(window, Unreachable()).epochs(["a"]) == {"a": 3}
        window.add(turn("a", 1, epoch=4, activates=True))
        window.trim({0: 9 * TURN_OFFSETS})
        assert await KafkaLogHistories(window, Unreachable()).epochs(["a"]) == {"a": 4}

    async def test_ask_again_if_a_partition_begins_anew_while_the_archive_answers(self) -> None:
        window = LogWindow()
        archive = await archive_of(turn("a", 0, epoch=3, activates=True))

        class Late(MemoryArchive):
            asked = 0

            async def epochs(self, workflow_ids: Sequence[str]) -> Mapping[str, int]:
                self.asked += 1
                if self.asked > 1:
                    return await archive.epochs(workflow_ids)
                window.add(turn("a", 0, epoch=3, activates=True))
                window.restart(0, 1)  # the archive has it by now, which this answer does not say
                return {}

            async def offsets(self) -> Mapping[int, int]:
                return {0: TURN_OFFSETS}

        late = Late()
        assert await KafkaLogHistories(window, late).epochs(["a"]) == {"a": 3}
        assert late.asked == 2

    async def test_refuse_an_archive_that_was_reset_since(self) -> None:
        turns = [turn("a", offset, epoch=1, activates=True) for offset in range(3)]
        archive = await archive_of(*turns[:2])
        await archive.add([], offset=2 * TURN_OFFSETS, partition=0)
        window = window_of(*turns)
        window.trim(await archive.offsets())
        histories = KafkaLogHistories(window, archive)
        assert offsets(await histories.read("a")) == [0, 1, 2]
        await archive.reset()
        behind = 1 * TURN_OFFSETS + 1  # within the last turn that was cut off
        await archive.add(records_of(turns[0]), offset=behind, partition=0)
        for asked in (histories.read("a"), histories.epochs(["b"]), histories.standing("b")):
            with pytest.raises(Unavailable, match="reset"):
                await asked
        await archive.add(records_of(turns[1]), offset=2 * TURN_OFFSETS, partition=0)
        assert offsets(await histories.read("a")) == [0, 1, 2]


class Unreachable(MemoryArchive):
    async def read(
        self, workflow_id: str, *, after_offset: int = 0, limit: int | None = None
    ) -> Sequence[Record]:
        raise AssertionError("the archive was asked")

    async def epochs(self, workflow_ids: Sequence[str]) -> Mapping[str, int]:
        raise AssertionError("the archive was asked")
