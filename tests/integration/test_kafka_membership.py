"""Engines that share the partitions of the command queue, by Kafka's consumer group."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Collection
from unittest.mock import Mock

import pytest

from orchx.adapters.kafka_membership import KafkaMembership, resume_join
from orchx.adapters.kafka_topics import ensure_topics
from orchx.domain.messages import CancelWorkflow, DeliverEvent
from orchx.errors import Bug
from orchx.settings import KafkaSettings
from tests import servers

TIMEOUT_S = 90.0  # a session's end, and two rebalances after it
PARTITIONS = 4
ALL = set(range(PARTITIONS))


class Engine:
    """A member, and what it was told: it holds what it was given and has not given up.

    `slow`: giving up waits for it.
    """

    def __init__(self, settings: KafkaSettings, name: str, everyone: list[Engine]) -> None:
        self.name = name
        self.membership = KafkaMembership(settings, name, watermarks=lambda: {0: 3})
        self.held: set[int] = set()
        self.given_up: list[list[int]] = []
        self.slow = asyncio.Event()
        self.slow.set()
        self.overlaps: list[str] = []
        self._everyone = everyone
        everyone.append(self)
        self.task = asyncio.create_task(self.membership.run(self))

    def given(self, partitions: Collection[int]) -> None:
        for other in self._everyone:
            if other.name != self.name and other.held.intersection(partitions):
                self.overlaps.append(f"{sorted(partitions)} while {other.name} has {other.held}")
        self.held.update(partitions)

    async def give_up(self, partitions: Collection[int]) -> None:
        await self.slow.wait()
        self.given_up.append(sorted(partitions))
        self.held.difference_update(partitions)

    async def end(self) -> None:
        """Leave, if it has not yet."""
        if not self.task.done():
            await self.membership.leave()
            self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(TIMEOUT_S):
        while not condition():  # noqa: ASYNC110  what is awaited has no event
            await asyncio.sleep(0.02)


@pytest.fixture
async def engines() -> AsyncIterator[Callable[[str], Engine]]:
    settings = servers.apache_kafka(partitions=PARTITIONS, session_timeout_ms=10_000)
    await asyncio.to_thread(ensure_topics, settings)
    everyone: list[Engine] = []
    yield lambda name: Engine(settings, name, everyone)
    for engine in everyone:
        await engine.end()
    assert [overlap for engine in everyone for overlap in engine.overlaps] == []


async def test_one_engine_has_everything(engines: Callable[[str], Engine]) -> None:
    one = engines("one")
    await asyncio.wait_for(one.membership.joined(), TIMEOUT_S)
    await until(lambda: one.held == ALL)


async def test_a_second_one_gets_its_share_and_each_partition_has_one_holder(
    engines: Callable[[str], Engine],
) -> None:
    one = engines("one")
    await until(lambda: one.held == ALL)
    two = engines("two")
    await until(lambda: len(two.held) == 2 and len(one.held) == 2)
    assert one.held | two.held == ALL


async def test_the_next_one_waits_until_a_partition_is_let_go(
    engines: Callable[[str], Engine],
) -> None:
    one = engines("one")
    await until(lambda: one.held == ALL)
    one.slow.clear()
    two = engines("two")
    await until(lambda: two.membership._joined.is_set())
    assert two.held == set()
    one.slow.set()
    await until(lambda: len(two.held) == 2)


async def test_who_leaves_hands_over_at_once(engines: Callable[[str], Engine]) -> None:
    one, two = engines("one"), engines("two")
    await until(lambda: len(one.held) == 2 and len(two.held) == 2)
    mine = sorted(one.held)
    await one.end()
    assert (one.held, one.given_up[-1]) == (set(), mine)
    await until(lambda: two.held == ALL)


async def test_one_that_begins_anew_has_its_partitions_and_nobody_else_is_disturbed(
    engines: Callable[[str], Engine],
) -> None:
    one, two = engines("one"), engines("two")
    await until(lambda: len(one.held) == 2 and len(two.held) == 2)
    known = set(one.held)
    two.given_up.clear()  # it may have been the first, and had all until the other came
    one.task.cancel()  # as good as dead: it says nothing to the group any more
    await asyncio.gather(one.task, return_exceptions=True)
    one.held.clear()
    again = engines("one")
    await until(lambda: again.held == known)
    assert two.given_up == []
    await until(lambda: one.membership._consumer is not None)


async def test_the_partitions_of_one_that_died_go_to_the_others(
    engines: Callable[[str], Engine],
) -> None:
    one, two = engines("one"), engines("two")
    await until(lambda: len(one.held) == 2 and len(two.held) == 2)
    one.task.cancel()
    await asyncio.gather(one.task, return_exceptions=True)
    one.held.clear()
    await until(lambda: two.held == ALL)


async def test_two_of_one_name_are_told(engines: Callable[[str], Engine]) -> None:
    former = engines("one")
    await until(lambda: former.held == ALL)
    present = engines("one")
    with pytest.raises(Bug, match="ORCHX_ENGINE"):
        await asyncio.wait_for(asyncio.shield(former.task), TIMEOUT_S)
    assert former.held == set()
    await until(lambda: present.held == ALL)


def test_a_command_is_where_its_workflow_is_unless_it_says_where() -> None:
    member = KafkaMembership(KafkaSettings(partitions=8), "one", watermarks=dict)
    cancel = CancelWorkflow(id="c", workflow_id="w", created_at_ms=1)
    event = DeliverEvent(id="e", workflow_id="", created_at_ms=1, event={}, partition=5)
    assert member.partition_of(cancel) == member.partition_of_workflow("w")
    assert member.partition_of(event) == 5


@pytest.mark.parametrize(
    ("rebalancing", "needed", "asked"), [(True, False, 1), (True, True, 0), (False, False, 0)]
)
def test_a_join_that_nobody_awaits_any_more_is_made_again(
    rebalancing: bool, needed: bool, asked: int
) -> None:
    coordinator = Mock()
    coordinator.rebalance_in_progress.return_value = rebalancing
    coordinator.need_rejoin.return_value = needed
    resume_join(Mock(_coordinator=coordinator))
    assert coordinator.request_rejoin.call_count == asked
