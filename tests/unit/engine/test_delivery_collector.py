"""Deliveries of a log with several partitions, with an offset for each."""

from __future__ import annotations

import pytest

from orchx.domain.events import Callback
from orchx.engine.reporter import Reporter
from orchx.errors import DriverError
from orchx.settings import Settings
from orchx.testing.memory_deliveries import MemoryDeliveries
from orchx.testing.memory_event_log import MemoryEventLog
from tests.unit.engine.fakes import FakeClock, FakeSender
from tests.unit.engine.histories import CALLBACK_URL, simple_run

PARTITIONS = 3
WORKFLOWS = {f"wf-{number}" for number in range(12)}


async def fill(log: MemoryEventLog, prefix: str = "") -> None:
    for workflow_id in WORKFLOWS:
        await log.append(simple_run(prefix + workflow_id, callback=Callback(url=CALLBACK_URL)))


def reporter(log: MemoryEventLog, deliveries: MemoryDeliveries) -> Reporter:
    clock = FakeClock()
    return Reporter(log, deliveries, FakeSender(clock), clock, Settings())


async def test_collects_from_every_partition_and_goes_on_from_its_offset() -> None:
    log, deliveries = MemoryEventLog(partitions=PARTITIONS), MemoryDeliveries()
    await fill(log)
    first = reporter(log, deliveries)
    total = sum([await log.last_offset(partition) for partition in range(PARTITIONS)])
    assert await first.lag() == total
    assert await first.collect() > 0
    assert await first.collect() == 0
    assert await first.lag() == 0
    made = await deliveries.list()
    assert {delivery.workflow_id for delivery in made} == WORKFLOWS
    await fill(log, "late-")
    assert await reporter(log, deliveries).collect() < total
    made = await deliveries.list()
    assert len(made) == 2 * len(WORKFLOWS) == len({delivery.id for delivery in made})


async def test_asks_again_how_many_partitions_there_are_until_it_is_told() -> None:
    class Away(MemoryEventLog):
        away = True

        async def partitions(self) -> int:
            if self.away:
                raise DriverError("the log is out of reach")
            return await super().partitions()

    log, deliveries = Away(partitions=PARTITIONS), MemoryDeliveries()
    await fill(log)
    subject = reporter(log, deliveries)
    with pytest.raises(DriverError):
        await subject.collect()
    log.away = False
    await subject.collect()
    assert len(await deliveries.list()) == len(WORKFLOWS)
