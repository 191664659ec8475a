"""A command queue on Kafka whose partitions change hands."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from kafka import TopicPartition
from kafka.admin import KafkaAdminClient

from orchx.adapters.kafka_connection import open_client, partition_of
from orchx.domain.messages import DeliverEvent
from tests.integration.command_installation import (
    TIMEOUT_S,
    Installation,
    command,
    ids_in,
    installed,
    until,
)


@pytest.fixture
async def installation() -> AsyncIterator[Installation]:
    async with installed() as made:
        yield made


class TestHandOver:
    async def test_who_has_lost_a_partition_says_nothing_of_it_any_more(
        self, installation: Installation
    ) -> None:
        former = await installation.taker()
        await former.put([command("a"), command("b")])
        assert await ids_in(former) == ["a", "b"]
        present = await installation.taker()
        assert await ids_in(present) == ["a", "b"]
        await former.acknowledge(["a", "b"])
        await former.close()
        await present.acknowledge(["a"])
        await present.close()
        assert await ids_in(await installation.taker()) == ["b"]

    async def test_what_is_given_up_is_neither_returned_nor_counted(self) -> None:
        async with installed(partitions=2) as installation:
            queue = await installation.taker()
            in_first, in_second = (
                next(f"w{n}" for n in range(99) if partition_of(f"w{n}", 2) == p) for p in (0, 1)
            )
            await queue.put(
                [command("a", workflow_id=in_first), command("b", workflow_id=in_second)]
            )
            assert sorted(await ids_in(queue)) == ["a", "b"]
            await queue.hold([1])
            assert await ids_in(queue) == ["b"]
            assert (await queue.backlog()).total == 1
            await queue.acknowledge(["b"])
            await queue.hold([0, 1])
            assert await ids_in(queue) == ["a"]

    async def test_an_event_handed_on_to_a_partition_arrives_there(self) -> None:
        async with installed(partitions=2) as installation:
            queue = installation.queue(consumes=True)
            await queue.hold([1])
            relayed = [
                DeliverEvent(id=f"e{p}", workflow_id="", created_at_ms=1, event={}, partition=p)
                for p in (0, 1)
            ]
            await queue.put(relayed)
            assert await ids_in(queue) == ["e1"]

    async def test_what_others_have_put_arrives(self, installation: Installation) -> None:
        queue, other = await installation.taker(), installation.queue()
        await queue.put([command("mine")])
        await other.put([command("theirs")])
        found: list[str] = []
        position = 0
        async with asyncio.timeout(TIMEOUT_S):
            while not found:
                position, some = await queue.arrivals(
                    after_position=position, known=lambda id_: id_ == "mine"
                )
                found += [one.id for one in some]
        assert found == ["theirs"]
        after, some = await queue.arrivals(after_position=position, known=lambda _: False)
        assert (after, list(some)) == (position, [])

    async def test_what_the_topic_has_forgotten_unacknowledged_the_index_has(
        self, installation: Installation
    ) -> None:
        former = await installation.taker()
        indexer = installation.start_indexer()
        await former.put([command(id_) for id_ in "abcd"])
        assert await ids_in(former) == list("abcd")
        await former.acknowledge(["b"])

        async def is_indexed() -> bool:
            return await indexer.lag() == 0

        await until(is_indexed)
        await former.close()
        admin = await asyncio.to_thread(open_client, KafkaAdminClient, installation.kafka, "test")
        await asyncio.to_thread(admin.delete_records, {TopicPartition(installation.topic, 0): 3})
        await asyncio.to_thread(admin.close)
        assert await ids_in(await installation.taker()) == ["a", "c", "d"]
