"""Several partitions, projected as one; and the archive, which gets everything first."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest

from orchx.domain.events import Record
from orchx.engine.projection import Projection
from orchx.engine.projector import FAILURE_DELAY_S, Projector
from orchx.errors import DriverError, Unavailable
from orchx.ports.state_store import WorkflowSummary
from orchx.settings import Settings
from orchx.testing.memory_archive import MemoryArchive
from orchx.testing.memory_event_log import MemoryEventLog
from orchx.testing.memory_state_store import MemoryStateStore
from tests.unit.engine.fakes import FakeClock
from tests.unit.engine.histories import simple_run

PARTITIONS = 3
WORKFLOWS = [f"wf-{number}" for number in range(12)]


async def filled_log() -> MemoryEventLog:
    log = MemoryEventLog(partitions=PARTITIONS)
    for workflow_id in WORKFLOWS:
        await log.append(simple_run(workflow_id))
    assert all([await log.last_offset(partition) for partition in range(PARTITIONS)])
    return log


class Archiving(MemoryArchive):
    """An archive that may be out of reach."""

    broken = False

    async def add(self, records: Sequence[Record], *, offset: int, partition: int) -> None:
        if self.broken:
            raise DriverError("the archive is out of reach")
        await super().add(records, offset=offset, partition=partition)


@asynccontextmanager
async def running(projection: Projection) -> AsyncIterator[None]:
    task = asyncio.create_task(projection.run())
    await asyncio.sleep(0)
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def projection(
    log: MemoryEventLog, store: MemoryStateStore, clock: FakeClock, *, alone: bool = True
) -> Projection:
    def make(partition: int) -> Projector:
        return Projector(log, store, clock, Settings(), partition=partition, batch_limit=4)

    return Projection(log, store, clock, make, alone=alone)


async def test_the_barrier_is_that_of_all_partitions() -> None:
    log, store = await filled_log(), MemoryStateStore()
    subject = projection(log, store, FakeClock())
    async with running(subject):
        await subject.barrier()
        rows = await store.load(WORKFLOWS)
        assert {row.status for row in rows.values()} == {"completed"}
        assert len(rows) == len(WORKFLOWS)
        for partition in range(PARTITIONS):
            assert await store.offset(partition) == await log.last_offset(partition)
        assert await subject.lag() == 0
        assert subject.gaps == 0


async def test_a_barrier_of_one_partition_waits_for_that_alone() -> None:
    log, store = await filled_log(), MemoryStateStore()
    subject = projection(log, store, FakeClock())
    with pytest.raises(Unavailable, match="waits for the event log"):
        await subject.barrier([1])
    async with running(subject):
        await subject.barrier()
        for workflow_id in [f"later-{number}" for number in range(12)]:
            await log.append(simple_run(workflow_id))
        before = [await store.offset(partition) for partition in range(PARTITIONS)]
        assert await subject.barrier([1]) == {1: await log.last_offset(1)}
        after = [await store.offset(partition) for partition in range(PARTITIONS)]
        assert after[1] > before[1]
        assert (after[0], after[2]) == (before[0], before[2])
        with pytest.raises(Unavailable, match="no partition 3"):
            await subject.barrier([PARTITIONS])


async def test_the_wait_for_another_engines_projector_ends_though_the_stores_are_slow() -> None:
    clock = FakeClock()

    class Slow(MemoryStateStore):
        asked = 0

        async def offset(self, partition: int = 0) -> int:
            self.asked += 1
            await clock.sleep(4.0)
            return 0

    log, store = await filled_log(), Slow()
    subject = projection(log, store, clock, alone=False)
    async with running(subject):
        await clock.advance(0)
        waiting = asyncio.create_task(subject.barrier([0], timeout_s=10.0))
        await clock.advance(13.0)
        with pytest.raises(Unavailable, match="partition 0 is not projected by any engine"):
            await waiting
    assert store.asked == 3


async def test_the_lag_is_that_of_all_partitions() -> None:
    log, store = MemoryEventLog(partitions=PARTITIONS), MemoryStateStore()
    subject = projection(log, store, FakeClock())
    async with running(subject):
        await subject.barrier()
        for workflow_id in WORKFLOWS:
            await log.append(simple_run(workflow_id))
        total = sum([await log.last_offset(partition) for partition in range(PARTITIONS)])
        assert await subject.lag() == total


async def test_nothing_is_promised_before_the_log_has_said_how_many_partitions_it_has() -> None:
    class Away(MemoryEventLog):
        away = True

        async def partitions(self) -> int:
            if self.away:
                raise DriverError("the log is out of reach")
            return await super().partitions()

    log, clock = Away(), FakeClock()
    subject = projection(log, MemoryStateStore(), clock)
    async with running(subject):
        with pytest.raises(Unavailable):
            await subject.barrier()
        log.away = False
        await clock.advance(1.0)
        await subject.barrier()


async def test_whether_projecting_goes_on_is_told_without_waiting_for_any_partition() -> None:
    class Store(MemoryStateStore):
        broken = False

        async def save(
            self, summaries: Sequence[WorkflowSummary], *, offset: int, partition: int = 0
        ) -> None:
            if self.broken:
                raise DriverError("no disk")
            await super().save(summaries, offset=offset, partition=partition)

    log, store, clock = await filled_log(), Store(), FakeClock()
    subject = projection(log, store, clock, alone=False)
    with pytest.raises(Unavailable, match="waits for the event log"):
        subject.check()
    async with running(subject):
        await clock.advance(0)
        subject.check()  # of no partition yet: what others project is not asked
        subject.serve([0, 2])
        store.broken = True
        await clock.advance(0)
        with pytest.raises(Unavailable, match="no disk"):
            subject.check()
        store.broken = False
        await clock.advance(FAILURE_DELAY_S)
        subject.check()
        assert await store.offset(0) == await log.last_offset(0)


def archiving(log: MemoryEventLog, store: MemoryStateStore, archive: Archiving) -> Projector:
    return Projector(log, store, FakeClock(), Settings(), partition=1, archive=archive)


async def archived(archive: Archiving) -> list[Record]:
    found = [record for each in WORKFLOWS for record in await archive.read(each)]
    return sorted(found, key=lambda record: record.offset)


async def test_the_archive_has_a_record_before_the_state_says_so() -> None:
    log, store, archive = await filled_log(), MemoryStateStore(), Archiving()
    subject = archiving(log, store, archive)
    archive.broken = True
    with pytest.raises(DriverError, match="archive"):
        await subject.step()
    assert await store.offset(1) == 0
    assert await store.counts() == {}
    archive.broken = False
    await subject.barrier()
    assert await archived(archive) == list(await log.tail(0, limit=10_000, partition=1))
    assert await archive.offsets() == {1: await log.last_offset(1)}
    assert await store.offset(1) == await log.last_offset(1)


async def test_an_archive_that_was_dropped_is_filled_again() -> None:
    log, store, archive = await filled_log(), MemoryStateStore(), Archiving()
    await archiving(log, store, archive).barrier()
    rows = await store.load(WORKFLOWS)
    await archive.reset()
    await archiving(log, store, archive).barrier()
    assert await archived(archive) == list(await log.tail(0, limit=10_000, partition=1))
    assert await store.load(WORKFLOWS) == rows


async def test_offsets_without_records_are_no_lag() -> None:
    class Holes(MemoryEventLog):
        async def last_offset(self, partition: int = 0) -> int:
            return 100 + await super().last_offset(partition)

    log = Holes()
    subject = projection(log, MemoryStateStore(), FakeClock())
    async with running(subject):
        await log.append(simple_run("wf"))
        assert await subject.lag() > 100
        await subject.barrier()
        assert await subject.lag() == 0
