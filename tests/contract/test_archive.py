"""What every archive does."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

import msgspec
import pytest

from orchx.domain.events import Record, TaskCompleted, TaskSkipped, WorkflowActivated
from orchx.ports.archive import Archive

TURN = 4096


def turn(workflow_id: str, number: int, count: int = 2, **changes: object) -> list[Record]:
    """Return the records of one turn of the log."""
    fields = {"epoch": 1, "owner": "owner-1", "at_ms": 1000 + number, **changes}
    return [
        Record(
            workflow_id=workflow_id,
            seq=number * 10 + index,
            offset=number * TURN + index + 1,
            **{"event": TaskSkipped(parent=0, reference=f"/do/{number}/{index}"), **fields},  # type: ignore[arg-type]
        )
        for index in range(count)
    ]


def activation(workflow_id: str, number: int, epoch: int) -> list[Record]:
    return turn(workflow_id, number, 1, epoch=epoch, event=WorkflowActivated())


async def add(archive: Archive, records: Sequence[Record], partition: int = 0) -> None:
    await archive.add(records, offset=records[-1].offset, partition=partition)


async def paged(archive: Archive, workflow_id: str, limit: int) -> list[Record]:
    found: list[Record] = []
    while page := await archive.read(
        workflow_id, after_offset=found[-1].offset if found else 0, limit=limit
    ):
        found += page
    return found


class TestArchive:
    async def test_is_empty_at_first(self, archive: Archive) -> None:
        assert await archive.offsets() == {}
        assert await archive.read("w") == []
        assert await archive.epochs(["w"]) == {}
        assert await archive.epochs([]) == {}

    async def test_gives_back_what_was_added(self, archive: Archive) -> None:
        records = [
            *turn("w", 1, traceparent="00-" + "a" * 32 + "-" + "b" * 16 + "-01"),
            *turn("w", 2, 1, event=TaskCompleted(parent=0, reference="/x")),  # output absent
            *turn("w", 3, 1, event=TaskCompleted(parent=0, reference="/x", output=None)),
            *turn("w", 4, 1, version=7, owner="owner-é", epoch=3),
            *turn("w", 5, 1, event=TaskCompleted(parent=0, reference="/x", output='"\n\0\u2028')),
        ]
        await add(archive, records)
        assert await archive.read("w") == records

    async def test_keeps_workflows_apart(self, archive: Archive) -> None:
        a, b, c = turn("a", 0), turn("b", 1), turn("a", 2)
        await add(archive, [*a, *b, *c])
        await add(archive, turn("c", 0), partition=1)  # the offsets of "a", elsewhere
        assert await archive.read("a") == [*a, *c]
        assert await archive.read("b") == b
        assert await archive.read("c") == turn("c", 0)

    async def test_reads_a_workflow_in_parts(self, archive: Archive) -> None:
        records = [record for number in range(5) for record in turn("w", number, 3)]
        await add(archive, records)
        for limit in (1, 2, 3, 4, 100):
            assert await paged(archive, "w", limit) == records
        assert await archive.read("w", limit=0) == []
        for number, record in enumerate(records, 1):
            assert await archive.read("w", after_offset=record.offset) == records[number:]

    async def test_tells_how_far_each_partition_is(self, archive: Archive) -> None:
        await add(archive, turn("w", 7))
        await add(archive, turn("v", 2), partition=3)
        await archive.add([], offset=5 * TURN, partition=3)
        assert await archive.offsets() == {0: 7 * TURN + 2, 3: 5 * TURN}

    async def test_an_offset_not_above_is_not_stored(self, archive: Archive) -> None:
        await add(archive, turn("w", 7))
        await add(archive, turn("w", 3))
        await archive.add([], offset=0, partition=0)
        assert await archive.offsets() == {0: 7 * TURN + 2}
        assert await archive.read("w") == [*turn("w", 3), *turn("w", 7)]

    async def test_what_comes_again_stays_as_it_was(self, archive: Archive) -> None:
        records = [*turn("w", 1), *turn("v", 2), *turn("w", 3)]
        await add(archive, records[:4])
        await add(archive, records)
        await add(archive, records[:2])
        changed = [msgspec.structs.replace(record, owner="other") for record in records]
        await add(archive, changed)
        assert await archive.read("w") == [*records[:2], *records[4:]]
        assert await archive.read("v") == records[2:4]

    async def test_a_batch_may_end_within_a_turn(self, archive: Archive) -> None:
        records = [*turn("w", 1, 5), *turn("w", 2, 5)]
        for part in (records[:3], records[3:7], records[7:]):
            await add(archive, part)
        assert await archive.read("w") == records
        for limit in (1, 2, 3, 4):
            assert await paged(archive, "w", limit) == records

    @pytest.mark.parametrize("seed", range(8))
    async def test_a_batch_may_come_again_cut_elsewhere(self, archive: Archive, seed: int) -> None:
        """As after crashes: each attempt goes on from what is stored, or from before it."""
        cut = random.Random(seed)
        records = [record for number in range(6) for record in turn("w", number, 6)]
        reached = 0
        while reached < len(records):
            start = cut.randint(max(0, reached - 8), reached)
            reached = cut.randint(start + 1, min(start + 9, len(records)))
            await add(archive, records[start:reached])
        assert await archive.read("w") == records
        for limit in (1, 3, 7):
            assert await paged(archive, "w", limit) == records
        for number, record in enumerate(records, 1):
            assert await archive.read("w", after_offset=record.offset) == records[number:]

    async def test_takes_and_gives_much_at_once(self, archive: Archive) -> None:
        records = [record for number in range(1_200) for record in turn("w", number, 2)]
        await add(archive, records)
        assert await archive.read("w") == records

    async def test_takes_a_turn_of_four_mebibytes(self, archive: Archive) -> None:
        event = TaskCompleted(parent=0, reference="/x", output="é" * 1_048_576)
        records = turn("w", 1, 2, event=event)
        await add(archive, records)
        assert await archive.read("w") == records

    async def test_pages_are_bounded_in_bytes(self, archive: Archive) -> None:
        event = TaskCompleted(parent=0, reference="/x", output="x" * 3_000_000)
        records = [record for number in range(8) for record in turn("w", number, 1, event=event)]
        for record in records:
            await add(archive, [record])
        assert await paged(archive, "w", 100) == records
        assert await archive.read("w") == records

    async def test_tells_the_highest_epoch_of_each_workflow(self, archive: Archive) -> None:
        await add(archive, [*activation("w", 1, 1), *turn("w", 2), *activation("w", 3, 12)])
        await add(archive, [*activation("w", 4, 2), *turn("w", 5, epoch=40)])  # fenced ones
        await add(archive, [*activation("v", 1, 1), *turn("unclaimed", 2)], partition=1)
        found = await archive.epochs(["w", "v", "unclaimed", "nobody"])
        assert found == {"w": 12, "v": 1, "unclaimed": 0}
        assert await archive.epochs(["nobody"]) == {}

    async def test_an_epoch_is_found_in_a_part_of_a_turn(self, archive: Archive) -> None:
        opening = [*activation("w", 1, 9), *turn("w", 1, 4)[1:]]
        await add(archive, opening[:2])
        await add(archive, opening[2:])
        assert await archive.epochs(["w"]) == {"w": 9}

    async def test_reset_forgets_everything(self, archive: Archive) -> None:
        await add(archive, [*activation("w", 1, 1), *turn("w", 2)])
        await archive.reset()
        assert await archive.offsets() == {}
        assert await archive.read("w") == []
        assert await archive.epochs(["w"]) == {}
        await add(archive, turn("w", 2))
        assert await archive.read("w") == turn("w", 2)
        assert await archive.offsets() == {0: 2 * TURN + 2}

    async def test_another_opening_sees_the_same_archive(
        self, archives: Callable[[], Archive]
    ) -> None:
        one, other = archives(), archives()
        await add(one, activation("w", 1, 5))
        assert await other.read("w") == activation("w", 1, 5)
        assert await other.epochs(["w"]) == {"w": 5}
        assert await other.offsets() == {0: TURN + 1}
