"""Partitions that nobody asks for are not followed, and what is missed so does no harm."""

from __future__ import annotations

from orchx.adapters import kafka_log_follower
from orchx.adapters.kafka_connection import partition_of
from orchx.domain.lineage import AcceptedRecords
from orchx.testing.memory_archive import MemoryArchive
from tests.integration.kafka_installation import (
    PARTITIONS,
    Installation,
    archive_all,
    claim,
    record,
    until,
)


class TestResting:
    async def test_what_came_while_nobody_asked_is_passed_over_and_yet_known(
        self, here: Installation
    ) -> None:
        archive = MemoryArchive()
        owner, other = here.log(archive), here.log()
        assert (await owner.claim(claim("w"))).opened
        follower, partition = owner._follower, partition_of("w", PARTITIONS)
        follower._rest_s = 0.0
        await other.append([record("w", 3)])
        await until(lambda: partition in follower._resting)
        traffic = [record(f"w{number}", 1) for number in range(300)]
        await other.append(traffic)
        assert (await other.claim(claim("w", owner="owner-2"))).epoch == 2
        await archive_all(other, archive)
        await other.append([record("w", 1, epoch=2, owner="owner-2")])
        follower._rest_s = kafka_log_follower.REST_S
        assert await owner.epochs(["w"]) == {"w": 2}
        assert partition not in follower._resting
        assert len(follower.window) < 10
        counted = AcceptedRecords().of(await owner.read("w"))  # without claims made in vain
        first = [(1, 0), (1, 1), (1, 2), (1, 3)]
        assert [(r.epoch, r.seq) for r in counted] == [*first, (2, 0), (2, 1)]
        third = await owner.claim(claim("w", owner="owner-3"))
        assert third.epoch == 3
        counted = AcceptedRecords().of(third.history)
        assert [r.epoch for r in counted] == [1, 1, 1, 1, 2, 2, 3]

    async def test_a_claim_wakes_its_partition_before_it_looks(self, here: Installation) -> None:
        archive = MemoryArchive()
        owner, other = here.log(archive), here.log()
        await owner.claim(claim("w"))
        follower, partition = owner._follower, partition_of("w", PARTITIONS)
        follower._rest_s = 0.0
        await other.append([record("w", 3)])
        await until(lambda: partition in follower._resting)
        assert (await other.claim(claim("w", owner="owner-2"))).epoch == 2
        await archive_all(other, archive)
        follower._rest_s = kafka_log_follower.REST_S
        assert (await owner.claim(claim("w", owner="owner-1b"))).epoch == 3
