"""What the Kafka command queue does when something dies, is missing, or is no command."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence

import pytest
from kafka import TopicPartition
from kafka.admin import KafkaAdminClient
from pydantic import SecretStr

from orchx.adapters import kafka_command_lookup, kafka_command_reader
from orchx.adapters.coalesced_query import CoalescedQuery
from orchx.adapters.kafka_command_feed import CommandFeed
from orchx.adapters.kafka_command_indexer import CommandIndexer
from orchx.adapters.kafka_command_reader import KafkaCommandReader
from orchx.adapters.kafka_command_records import decode_command, encode_command
from orchx.adapters.kafka_command_window import CommandWindow
from orchx.adapters.kafka_connection import open_client
from orchx.adapters.kafka_dead_letters import KafkaDeadLetters
from orchx.adapters.kafka_recent_commands import RecentCommands
from orchx.adapters.kafka_writer import KafkaWriter, Outgoing
from orchx.adapters.mongo_command_index import MongoCommandIndex
from orchx.adapters.mongo_connection import MongoConnection
from orchx.domain.messages import AnyCommand, DeliverEvent
from orchx.errors import Bug, Conflict, DriverError, InvalidRequest, Unavailable
from orchx.settings import MongoSettings
from tests import servers
from tests.integration.command_installation import (
    NOBODY,
    TIMEOUT_S,
    Installation,
    are_kept,
    command,
    ids_in,
    installed,
    until,
)


@pytest.fixture
async def installation() -> AsyncIterator[Installation]:
    async with installed() as made:
        yield made


class TestCrash:
    async def test_what_was_not_acknowledged_comes_again(self, installation: Installation) -> None:
        crashed, other = await installation.taker(), installation.queue()
        await crashed.put([command(id_) for id_ in "abcd"])
        assert await ids_in(crashed) == list("abcd")
        await crashed.acknowledge(["a", "b", "d"])

        async def is_stored() -> bool:
            return (await other.backlog()).total == 2  # c, and d above it

        await until(is_stored)
        # it is not closed before the next one starts, so it stores nothing more
        assert await ids_in(await installation.taker()) == ["c"]

    async def test_closing_stores_what_was_acknowledged(self, installation: Installation) -> None:
        queue = await installation.taker()
        await queue.put([command("a"), command("b")])
        await queue.acknowledge(["a"])  # perhaps before it was read
        await queue.close()
        await queue.close()
        assert await ids_in(await installation.taker()) == ["b"]

    async def test_a_closed_queue_says_so(self, installation: Installation) -> None:
        queue = await installation.taker()
        await queue.close()
        with pytest.raises(DriverError, match="closed"):
            await queue.put([command("a")])
        with pytest.raises(DriverError, match="closed"):
            await queue.pending(after_position=0, limit=1)

    async def test_a_caller_who_leaves_does_not_take_the_command_along(
        self, installation: Installation
    ) -> None:
        queue = await installation.taker()
        leaver = asyncio.create_task(queue.put([command("a")]))
        await asyncio.sleep(0)
        leaver.cancel()
        assert (await queue.put([command("a")]))[0].duplicate
        assert await installation.length() == 1


class TestManyProcesses:
    async def test_every_partition_is_taken_in_order(self) -> None:
        async with installed(partitions=3) as installation:
            queue, other = await installation.taker(), installation.queue()
            names = [f"w{number}" for number in range(20)]
            for turn in range(3):
                batch: list[AnyCommand] = [command(f"{n}-{turn}", workflow_id=n) for n in names]
                batch.append(DeliverEvent(id=f"e{turn}", workflow_id="", created_at_ms=1, event={}))
                await other.put(batch)
            found = await ids_in(queue)
            assert len(found) == 63
            for name in names:
                its = [id_ for id_ in found if id_.startswith(f"{name}-")]
                assert its == [f"{name}-{turn}" for turn in range(3)]
            assert (await other.backlog()).total == 63

    async def test_of_two_puts_of_one_id_the_first_on_the_topic_counts(
        self, installation: Installation
    ) -> None:
        taker, one, other = await installation.taker(), installation.queue(), installation.queue()
        # the index knows nothing yet: both are told that it is new
        assert not (await one.put([command("a", reason="first")]))[0].duplicate
        assert not (await other.put([command("a", reason="second")]))[0].duplicate
        page = await taker.pending(after_position=0, limit=10)
        assert [one for _, one in page] == [command("a", reason="first")]
        installation.start_indexer()
        reader = installation.queue()
        assert await reader.find("a") == command("a", reason="first")
        with pytest.raises(Conflict):
            await reader.put([command("a", reason="second")])
        await taker.acknowledge(["a"])
        assert await ids_in(taker) == []

    async def test_what_the_indexer_has_read_its_process_knows(
        self, installation: Installation
    ) -> None:
        recent = RecentCommands()
        indexer = installation.start_indexer(recent)
        await installation.queue().put([command("a")])
        near = installation.queue(recent=recent)

        async def is_read() -> bool:
            return recent.get("a") is not None

        await until(is_read)
        assert (await near.put([command("a")]))[0].duplicate

        async def is_stored() -> bool:
            return await indexer.lag() == 0

        await until(is_stored)

    async def test_only_where_it_was_told_are_commands_taken(
        self, installation: Installation
    ) -> None:
        queue = installation.queue()
        with pytest.raises(Bug):
            await queue.pending(after_position=0, limit=1)
        with pytest.raises(Bug):
            await queue.acknowledge(["a"])


class TestWindow:
    async def test_a_full_one_goes_on_as_acknowledgements_come(
        self, installation: Installation, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(kafka_command_reader, "POLL_RECORDS_MAX", 5)
        await installation.queue().put([command(f"c{number:02}") for number in range(30)])
        reader = KafkaCommandReader(installation.kafka, installation.topic, "ends")

        async def ask(_: frozenset[str]) -> dict[int, int]:
            return dict(await reader.ends())

        window = CommandWindow(count_max=10)
        connection = MongoConnection(installation.mongodb)
        feed = CommandFeed(installation.kafka, connection, CoalescedQuery(ask), window)
        await feed.hold([0])
        seen: list[str] = []
        async with asyncio.timeout(TIMEOUT_S):
            while len(seen) < 30:
                await feed.catch_up()
                for _ in range(20):  # time in which it must not go on
                    await reader.ends()
                assert len(window) + window.unread(await reader.ends()) == 30 - len(seen)
                page = window.page(after_position=0, limit=100)
                ids = [decode_command(payload).id for _, payload in page]
                assert len(ids) < 15
                window.acknowledge(ids)
                seen += ids
        assert seen == [f"c{number:02}" for number in range(30)]
        await feed.close()
        await reader.close()
        await connection.close()


class TestPoison:
    async def test_is_skipped_and_kept_aside(self, installation: Installation) -> None:
        taker, finder = await installation.taker(), installation.queue()
        await taker.put([command("a")])
        await installation.write(b"no command", None, b'{"kind":"dance"}')
        await taker.put([command("b")])
        installation.start_indexer()
        assert await ids_in(taker) == ["a", "b"]
        assert await finder.find("b") == command("b")
        letters = KafkaDeadLetters(installation.kafka)
        await until(lambda: are_kept(letters, 3))
        kept = await letters.find([0, 1, 2])
        assert [
            (one.letter.topic, one.letter.partition, one.letter.offset, one.key, one.value)
            for one in kept.values()
        ] == [
            (installation.topic, 0, 1, b"w", b"no command"),
            (installation.topic, 0, 2, b"w", None),
            (installation.topic, 0, 3, b"w", b'{"kind":"dance"}'),
        ]
        assert "malformed" in kept[0].letter.error
        await letters.close()

    async def test_a_mended_command_is_taken_once_however_often_it_is_replayed(
        self, installation: Installation
    ) -> None:
        queue = await installation.taker()
        whole = encode_command(command("a"))
        await installation.write(whole[:-1], b"no command", whole, key=b"somebody else's")
        installation.start_indexer()
        letters = KafkaDeadLetters(installation.kafka)
        await until(lambda: are_kept(letters, 3))
        kept = await letters.find([0, 1, 2])
        for number in (0, 1):
            with pytest.raises(InvalidRequest):
                letters.command_of(kept[number])
        taken = [letters.command_of(kept[0], whole), letters.command_of(kept[2])]
        assert taken == [command("a"), command("a")]  # the key alone was wrong
        accepted = [one.duplicate for each in taken for one in await queue.put([each])]
        assert accepted == [False, True]
        assert await ids_in(queue) == ["a"]
        await letters.close()


class TestIndex:
    async def test_is_made_again_from_the_topic(self, installation: Installation) -> None:
        queue = await installation.taker()
        installation.start_indexer()
        await queue.put([command("a"), command("b")])
        await queue.acknowledge(["a"])
        await queue.prune(older_than_ms=5)
        assert await installation.queue().find("a") == command("a")
        await installation.stop_indexer()
        index = MongoCommandIndex(MongoConnection(installation.mongodb))
        await index.drop()
        assert await index.payload("a") is None
        await index.close()
        installation.start_indexer()
        fresh = installation.queue()
        assert await fresh.find("a") == command("a")
        assert [one.duplicate for one in await fresh.put([command("a"), command("c")])] == [
            True,
            False,
        ]
        assert await fresh.pruned_before_ms() == 5

    @pytest.mark.parametrize("step", ["add", "save_next_offsets"])
    async def test_a_crash_in_between_neither_loses_nor_doubles(
        self, installation: Installation, monkeypatch: pytest.MonkeyPatch, step: str
    ) -> None:
        queue = installation.queue()
        await queue.put([command("a", reason="first")])
        connection = MongoConnection(installation.mongodb)

        async def die(index: MongoCommandIndex, what: object) -> None:
            raise Unavailable("killed")

        with monkeypatch.context() as patch:
            patch.setattr(MongoCommandIndex, step, die)
            killed = CommandIndexer(installation.kafka, connection)
            with pytest.raises(Unavailable, match="killed"):
                await killed.step()
        await installation.queue().put([command("b")])
        fresh = CommandIndexer(installation.kafka, connection)
        assert await fresh.lag() == 2

        async def is_stored() -> bool:
            await fresh.step()
            return await fresh.lag() == 0

        await until(is_stored)
        finder = installation.queue()
        assert await finder.find("a") == command("a", reason="first")
        assert await finder.find("b") == command("b")
        await killed.step()  # the one that was thought dead goes on: that does no harm either
        assert await finder.find("b") == command("b")
        for indexer in (killed, fresh):
            await indexer.close()
        await connection.close()

    async def test_says_so_where_the_topic_has_forgotten(self, installation: Installation) -> None:
        before_ms = round(time.time() * 1000)
        await installation.queue().put([command("a"), command("b"), command("c")])
        admin = await asyncio.to_thread(open_client, KafkaAdminClient, installation.kafka, "test")
        expired = {TopicPartition(installation.topic, 0): 2}
        await asyncio.to_thread(admin.delete_records, expired)
        await asyncio.to_thread(admin.close)
        installation.start_indexer()
        queue = await installation.taker()
        assert await queue.find("a") is None
        assert await queue.find("c") == command("c")
        assert await queue.pruned_before_ms() >= before_ms
        assert await ids_in(queue) == ["c"]

    async def test_behind_the_topic_it_is_not_believed(
        self, installation: Installation, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(kafka_command_lookup, "INDEX_TIMEOUT_S", 0.5)
        await installation.queue().put([command("a")])
        finder = installation.queue()
        with pytest.raises(Unavailable, match="state service"):
            await finder.find("a")
        installation.start_indexer()
        monkeypatch.setattr(kafka_command_lookup, "INDEX_TIMEOUT_S", TIMEOUT_S)
        assert await finder.find("a") == command("a")

    async def test_what_failed_and_arrived_all_the_same_is_not_stored_twice(
        self, installation: Installation, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        queue = await installation.taker()
        send = KafkaWriter.send

        async def send_and_lose_the_answer(
            writer: KafkaWriter, records: Sequence[Outgoing]
        ) -> Sequence[int]:
            await send(writer, records)
            raise DriverError("no answer")

        monkeypatch.setattr(KafkaWriter, "send", send_and_lose_the_answer)
        with pytest.raises(DriverError, match="no answer"):
            await queue.put([command("a")])
        monkeypatch.setattr(KafkaWriter, "send", send)
        installation.start_indexer()
        assert (await queue.put([command("a")]))[0].duplicate
        assert await installation.length() == 1


class TestOutOfReach:
    async def test_mongodb_is_named_and_nothing_is_stored_twice(
        self, installation: Installation
    ) -> None:
        nobody = MongoSettings(uri=SecretStr(f"mongodb://{NOBODY}/?replicaSet=x"), timeout_ms=500)
        cut_off = installation.queue(mongodb=nobody)
        for call in (cut_off.put([command("a")]), cut_off.find("a"), cut_off.backlog()):
            with pytest.raises(Unavailable, match="ORCHX_MONGODB__URI"):
                await call
        assert await installation.length() == 0
        queue = await installation.taker()
        assert not (await queue.put([command("a")]))[0].duplicate
        assert (await queue.put([command("a")]))[0].duplicate
        assert await ids_in(queue) == ["a"]
        assert await installation.length() == 1

    async def test_kafka_is_named(self, installation: Installation, mute: str) -> None:
        nobody = servers.apache_kafka(bootstrap_servers=(mute,), request_timeout_ms=1_000)
        cut_off = installation.queue(consumes=True, kafka=nobody)
        for call in (
            cut_off.put([command("a")]),
            cut_off.find("a"),
            cut_off.backlog(),
            cut_off.pending(after_position=0, limit=1),
        ):
            with pytest.raises(DriverError, match="ORCHX_KAFKA__BOOTSTRAP_SERVERS"):
                await call

    async def test_a_missing_topic_is_named(self, installation: Installation) -> None:
        elsewhere = servers.apache_kafka(request_timeout_ms=2_000)
        queue = installation.queue(kafka=elsewhere)
        with pytest.raises(DriverError, match="ORCHX_KAFKA__TOPIC_PREFIX"):
            await queue.put([command("a")])
