"""What the contract does not see of the archive in MongoDB: its documents, and its limits."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest
from msgspec.structs import replace

from orchx.adapters.mongo_archive import TURN_OFFSETS, TURNS, MongoArchive
from orchx.adapters.mongo_connection import Documents, MongoConnection
from orchx.domain.events import Record, TaskSkipped, WorkflowActivated
from orchx.errors import Bug, DriverError
from tests import servers


def turn(workflow_id: str, number: int, count: int = 3, epoch: int = 1) -> list[Record]:
    return [
        Record(
            workflow_id=workflow_id,
            epoch=epoch,
            owner="owner-1",
            seq=index,
            at_ms=1,
            event=TaskSkipped(parent=0, reference=f"/do/{index}") if index else WorkflowActivated(),
            offset=number * TURN_OFFSETS + index + 1,
        )
        for index in range(count)
    ]


@dataclass
class Rig:
    archive: MongoArchive
    connection: MongoConnection
    documents: Documents

    async def ids(self) -> list[str]:
        return sorted([found["_id"] async for found in self.documents.find({}, {"_id": 1})])


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    connection = MongoConnection(servers.mongodb())
    documents = await connection.collection(TURNS)
    yield Rig(MongoArchive(connection), connection, documents)
    await documents.database.client.drop_database(documents.database.name)
    await connection.close()


class TestDocuments:
    async def test_a_turn_is_one_document(self, rig: Rig) -> None:
        records = [*turn("a", 7), *turn("b", 8, epoch=4)]
        await rig.archive.add(records, offset=records[-1].offset, partition=2)
        await rig.archive.add(records[3:], offset=records[-1].offset, partition=2)
        assert await rig.ids() == ["2/7/1-3", "2/8/1-3"]
        found = await rig.documents.find_one({"_id": "2/8/1-3"})
        assert found is not None
        assert (found["workflow_id"], found["epoch"]) == ("b", 4)
        assert [line[1:5] for line in json.loads(found["records"])] == [
            [4, "owner-1", seq, 1] for seq in range(3)
        ]

    async def test_only_what_comes_cut_elsewhere_is_there_twice(self, rig: Rig) -> None:
        records = [*turn("a", 1), *turn("a", 2), *turn("a", 3)]
        await rig.archive.add(records[:5], offset=records[4].offset, partition=0)
        await rig.archive.add(records[3:], offset=records[-1].offset, partition=0)
        assert await rig.ids() == ["0/1/1-3", "0/2/1-2", "0/2/1-3", "0/3/1-3"]
        assert await rig.archive.read("a") == records

    async def test_offsets_may_be_shared_out_differently(self, rig: Rig) -> None:
        """A log without turns gives each record an offset, whatever workflow it is of."""
        archive = MongoArchive(rig.connection, turn_offsets=1)
        records = [
            Record(
                workflow_id=workflow_id,
                epoch=1,
                owner="o",
                seq=1,
                at_ms=1,
                event=TaskSkipped(parent=0, reference="/do/0"),
                offset=offset,
            )
            for offset, workflow_id in enumerate("abab", 1)
        ]
        await archive.add(records, offset=4, partition=0)
        assert await archive.read("a") == records[::2]
        assert await archive.read("b", after_offset=2) == records[3:]

    async def test_a_turn_of_two_workflows_is_refused(self, rig: Rig) -> None:
        mixed = [turn("a", 1)[0], turn("b", 1)[1]]
        with pytest.raises(Bug, match="two workflows"):
            await rig.archive.add(mixed, offset=9, partition=0)
        assert await rig.archive.offsets() == {}

    async def test_what_cannot_be_added_holds_up_no_other_partition(self, rig: Rig) -> None:
        huge = replace(turn("a", 1)[1], event=TaskSkipped(parent=0, reference="x" * 17_000_000))
        good = turn("b", 1)
        results = await asyncio.gather(
            rig.archive.add([huge], offset=huge.offset, partition=0),
            rig.archive.add(good, offset=good[-1].offset, partition=1),
            return_exceptions=True,
        )
        assert [isinstance(result, DriverError) for result in results] == [True, False]
        assert await rig.archive.offsets() == {1: good[-1].offset}
        assert await rig.archive.read("b") == good

    async def test_a_document_that_cannot_be_read_is_named(self, rig: Rig) -> None:
        records = turn("a", 1)
        await rig.archive.add(records, offset=records[-1].offset, partition=0)
        await rig.documents.update_one({}, {"$set": {"records": '[[1,2,"x"]]'}})
        with pytest.raises(DriverError, match="0/1/1-3"):
            await rig.archive.read("a")

    async def test_every_question_is_answered_from_an_index(self, rig: Rig) -> None:
        openings = [record for number in range(9) for record in turn(f"w{number}", number)]
        later = [
            record for number in range(9, 400) for record in turn(f"w{number % 9}", number)[1:]
        ]
        records = [*openings, *later]
        await rig.archive.add(records, offset=records[-1].offset, partition=0)
        database = rig.documents.database
        await database.command({"profile": 2})
        await rig.archive.read("w1", after_offset=200 * TURN_OFFSETS, limit=5)
        await rig.archive.epochs(["w1", "w2", "none"])
        await database.command({"profile": 0})
        profile = database["system.profile"].find({"ns": f"{database.name}.{TURNS.name}"})
        asked = [question async for question in profile]
        assert {question["command"].get("find") for question in asked} == {TURNS.name, None}
        for question in asked:
            assert question["planSummary"].startswith(("IXSCAN", "DISTINCT_SCAN"))
            assert not question.get("hasSortStage")
            assert question["keysExamined"] < 12
