"""The MongoDB adapters when the server is away, others write too, or a writer comes late."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest
from pydantic import SecretStr
from pymongo.uri_parser import parse_uri

from orchx.adapters import mongo_catalog, mongo_deliveries, mongo_state_store
from orchx.adapters.mongo_catalog import MongoCatalog
from orchx.adapters.mongo_connection import Layout, MongoConnection
from orchx.adapters.mongo_deliveries import MongoDeliveries
from orchx.adapters.mongo_state_store import MongoStateStore
from orchx.domain.services import Service
from orchx.errors import Conflict, DriverError, Unavailable
from orchx.ports.catalog import StoredDefinition
from orchx.ports.deliveries import Delivery
from orchx.ports.state_store import Filter
from orchx.settings import MongoSettings
from tests import servers
from tests.summaries import summary

TIMEOUT_MS = 1_000
SLACK_S = 4.0
"""For a busy machine; a driver's own defaults are 20 s and more."""

CROWD, LEAVING_TURNS, LEAVING_S = 600, 50, 0.5

Reach = Callable[[MongoSettings], MongoConnection]
Connect = Callable[[], MongoConnection]


@pytest.fixture
async def reach() -> AsyncIterator[Reach]:
    """Makes connections, and closes them in the end."""
    made: list[MongoConnection] = []

    def reach(settings: MongoSettings) -> MongoConnection:
        made.append(MongoConnection(settings))
        return made[-1]

    yield reach
    for connection in made:
        await connection.close()


@pytest.fixture
def settings() -> MongoSettings:
    return servers.mongodb()


@pytest.fixture
async def connect(settings: MongoSettings, reach: Reach) -> AsyncIterator[Connect]:
    """Connects like another process, to the same database, which is dropped in the end."""
    yield lambda: reach(settings)
    await reach(settings)._open().drop_database(settings.database)


def definition(name: str = "d", digest: str = "x", **changes: Any) -> StoredDefinition:
    made = StoredDefinition(
        namespace="n",
        name=name,
        version="1.0.0",
        digest=digest,
        source=b"{}",
        text="{}",
        created_at_ms=1,
    )
    return replace(made, **changes)


def delivery(id_: str, workflow_id: str, position: int, **changes: Any) -> Delivery:
    made = Delivery(
        id=id_,
        workflow_id=workflow_id,
        tenant="acme",
        position=position,
        url="http://receiver",
        event_type="t",
        body=b"{}",
        created_at_ms=100,
    )
    return replace(made, **changes)


class Wire:
    """A TCP connection to the server that can be cut off without a word, and joined again."""

    def __init__(self, uri: str) -> None:
        ((self._host, self._port),) = parse_uri(uri)["nodelist"]
        self._open = asyncio.Event()
        self._open.set()
        self._carrying: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Wire:
        self._server = await asyncio.start_server(self._carry, "127.0.0.1")
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in self._carrying:
            task.cancel()
        await asyncio.gather(*self._carrying, return_exceptions=True)

    @property
    def uri(self) -> SecretStr:
        # Directly: asked who its members are, a replica set would name the server itself.
        port = self._server.sockets[0].getsockname()[1]
        return SecretStr(f"mongodb://127.0.0.1:{port}/?directConnection=true")

    def cut(self) -> None:
        self._open.clear()

    def join(self) -> None:
        self._open.set()

    async def _carry(self, client: asyncio.StreamReader, answers: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._carrying.add(task)
        task.add_done_callback(self._carrying.discard)
        server, requests = await asyncio.open_connection(self._host, self._port)
        try:
            await asyncio.gather(self._pass_on(client, requests), self._pass_on(server, answers))
        finally:
            for stream in (requests, answers):
                stream.close()
                with suppress(ConnectionError):
                    await stream.wait_closed()

    async def _pass_on(self, source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            while data := await source.read(65_536):
                await self._open.wait()
                target.write(data)
                await target.drain()
            target.close()


def quick(uri: str) -> MongoSettings:
    return MongoSettings(uri=SecretStr(uri), timeout_ms=TIMEOUT_MS)


Use = Callable[[MongoConnection], Awaitable[object]]
USES: list[Use] = [
    lambda connection: MongoStateStore(connection).load(["a"]),
    lambda connection: MongoStateStore(connection).save([summary("a")], offset=1),
    lambda connection: MongoCatalog(connection).publish(definition()),
    lambda connection: MongoDeliveries(connection).due(now_ms=1, limit=1),
]


class TestOutOfReach:
    @pytest.mark.parametrize("use", USES)
    async def test_nobody_listens(self, reach: Reach, unused_tcp_port: int, use: Use) -> None:
        uri = f"mongodb://u:secret@127.0.0.1:{unused_tcp_port}/?replicaSet=orchx"
        text = await self._is_unavailable(reach, uri, use)
        assert str(unused_tcp_port) in text
        assert "secret" not in text

    async def test_somebody_listens_and_says_nothing(self, reach: Reach) -> None:
        with socket.create_server(("127.0.0.1", 0)) as silent:  # the kernel answers for it
            host, port = silent.getsockname()
            await self._is_unavailable(reach, f"mongodb://{host}:{port}")

    async def test_the_replica_set_has_another_name(
        self, reach: Reach, settings: MongoSettings
    ) -> None:
        ((host, port),) = parse_uri(settings.uri.get_secret_value())["nodelist"]
        uri = f"mongodb://{host}:{port}/?replicaSet=other"
        assert '"other"' in await self._is_unavailable(reach, uri)

    @pytest.mark.parametrize("uri", ["", "http://127.0.0.1", "mongodb://", "mongodb://u:p@x@y"])
    async def test_what_is_no_address_is_reported(self, reach: Reach, uri: str) -> None:
        with pytest.raises(DriverError, match="ORCHX_MONGODB__URI"):
            await USES[0](reach(quick(uri)))

    async def test_wrong_credentials(self, reach: Reach, settings: MongoSettings) -> None:
        uri = settings.uri.get_secret_value().replace("://", "://nobody:secret@")
        with pytest.raises(DriverError, match="credentials in ORCHX_MONGODB__URI") as caught:
            await USES[0](reach(settings.model_copy(update={"uri": SecretStr(uri)})))
        assert "secret" not in str(caught.value)

    async def test_after_a_while_it_is_back(
        self, reach: Reach, settings: MongoSettings, connect: Connect
    ) -> None:
        other = MongoStateStore(connect())
        await other.save([summary("a")], offset=1)
        await MongoCatalog(connect()).publish(definition())
        async with Wire(settings.uri.get_secret_value()) as wire:
            through = reach(
                settings.model_copy(update={"uri": wire.uri, "timeout_ms": 2 * TIMEOUT_MS})
            )
            store, catalog = MongoStateStore(through), MongoCatalog(through)
            await store.save([summary("a", seq=2)], offset=2)
            assert await catalog.revision() == 1
            wire.cut()
            for use in (store.save([summary("b")], offset=3), catalog.publish(definition("new"))):
                began = time.monotonic()
                with pytest.raises(Unavailable, match="ORCHX_MONGODB__URI"):
                    await use
                assert time.monotonic() - began < 2 * TIMEOUT_MS / 1000 + SLACK_S
            wire.join()
            await once_back(lambda: store.save([summary("b")], offset=3))
            await once_back(lambda: catalog.publish(definition("new")))
            await through.close()
        assert await other.counts() == {"running": 2}
        assert await other.offset() == 3

    async def _is_unavailable(self, reach: Reach, uri: str, use: Use | None = None) -> str:
        began = time.monotonic()
        with pytest.raises(Unavailable, match="ORCHX_MONGODB__URI") as caught:
            await (use or USES[0])(reach(quick(uri)))
        assert time.monotonic() - began < TIMEOUT_MS / 1000 + SLACK_S
        return str(caught.value)


async def once_back(use: Callable[[], Awaitable[object]]) -> None:
    """Do it as soon as the driver has found the server again; each try waits for that itself."""
    for _ in range(5):
        with suppress(Unavailable):
            await use()
            return
    pytest.fail("the server is back, and nobody noticed")


class TestTheDatabase:
    async def test_many_processes_make_it_at_once(self, connect: Connect) -> None:
        layouts = (mongo_state_store.WORKFLOWS, mongo_catalog.CHANGES, mongo_deliveries.DELIVERIES)
        await asyncio.gather(
            *(connect().collection(layout) for layout in layouts for _ in range(4))
        )
        changes = await connect().collection(mongo_catalog.CHANGES)
        assert await changes.count_documents({}) == 1

    @pytest.mark.parametrize(("version", "age"), [(2, "older"), (4, "newer")])
    async def test_another_layout_is_refused(
        self, connect: Connect, version: int, age: str
    ) -> None:
        await connect().collection(Layout(name="things", version=version))
        with pytest.raises(DriverError, match=rf"ORCHX_MONGODB__DATABASE.*{age}"):
            await connect().collection(Layout(name="things", version=3))

    async def test_a_reset_makes_the_indexes_again(self, connect: Connect) -> None:
        connection = connect()
        workflows = await connection.collection(mongo_state_store.WORKFLOWS)
        before = await workflows.index_information()
        assert "unfinished" in before
        await MongoStateStore(connection).reset()
        assert await workflows.index_information() == before

    async def test_what_is_closed_stays_closed(self, connect: Connect) -> None:
        store = MongoStateStore(connect())
        assert await store.offset() == 0
        await store.close()
        await store.close()
        with pytest.raises(DriverError, match="closed"):
            await store.offset()

    async def test_a_cancelled_caller_disturbs_nobody(self, connect: Connect) -> None:
        store = MongoStateStore(connect())
        await store.save([summary("a")], offset=1)
        saving = asyncio.create_task(store.save([summary("a", seq=2)], offset=2))
        await asyncio.sleep(0)
        saving.cancel()
        await asyncio.wait([saving])
        await store.save([summary("a", seq=3)], offset=3)
        assert (await store.load(["a"]))["a"].seq == 3


class TestStateStore:
    async def test_a_crash_before_the_offset_moved_is_made_good(self, connect: Connect) -> None:
        connection = connect()
        store = MongoStateStore(connection)
        new = [summary("a", seq=2), summary("b", seq=1)]
        await store.save([summary("a", seq=1)], offset=3)
        await store.save(new, offset=5)
        await self._set_back(connection, offset=3)
        # The next one read what was saved, found nothing new in the records, and moves on.
        await store.save([], offset=4)
        assert await store.offset() == 4
        await store.save(new, offset=5)
        assert await store.load(["a", "b"]) == {"a": new[0], "b": new[1]}
        assert await store.offset() == 5

    async def test_only_a_later_place_in_the_log_replaces(self, connect: Connect) -> None:
        connection = connect()
        store = MongoStateStore(connection)
        await store.save([summary("a", seq=5)], offset=5)
        await self._set_back(connection, offset=3)
        for offset, seq in ((4, 5), (5, 5), (6, 6)):
            await store.save([summary("a", seq=offset)], offset=offset)
            assert (await store.load(["a"]))["a"].seq == seq

    async def test_a_write_that_comes_late_changes_nothing(self, connect: Connect) -> None:
        class LookedBefore(MongoStateStore):
            async def _offsets(self, partitions: Sequence[int]) -> Mapping[int, int]:
                return {}

        former, store = LookedBefore(connect()), MongoStateStore(connect())
        await store.save([summary("a", status="completed")], offset=9)
        await former.save([summary("a"), summary("b")], offset=7)
        await store.save([summary("b", status="completed")], offset=10)
        assert await store.counts() == {"completed": 2}
        assert await store.offset() == 10

    async def test_what_one_partition_cannot_save_holds_up_no_other(self, connect: Connect) -> None:
        store = MongoStateStore(connect())
        huge = summary("a", labels={"k": "x" * 17_000_000})
        results = await asyncio.gather(
            store.save([huge], offset=1, partition=0),
            store.save([summary("b")], offset=2, partition=1),
            return_exceptions=True,
        )
        assert [isinstance(result, DriverError) for result in results] == [True, False]
        assert [await store.offset(partition) for partition in (0, 1)] == [0, 2]
        assert list(await store.load(["a", "b"])) == ["b"]

    async def test_a_workflow_may_move_to_another_partition(self, connect: Connect) -> None:
        store = MongoStateStore(connect())
        await store.save([summary("a")], offset=900, partition=0)
        await store.save([summary("a", status="completed")], offset=1, partition=5)
        assert await store.counts() == {"completed": 1}
        assert [await store.offset(partition) for partition in (0, 5)] == [900, 1]

    async def _set_back(self, connection: MongoConnection, *, offset: int) -> None:
        offsets = await connection.collection(mongo_state_store.OFFSETS)
        await offsets.update_one({"_id": 0}, {"$set": {"offset": offset}})

    async def test_text_that_looks_like_an_operator(self, connect: Connect) -> None:
        store = MongoStateStore(connect())
        odd = summary("$$ROOT", name="$name", type="$literal", labels={"$a.b\0": "$c", "": "="})
        await store.save([odd], offset=1)
        assert await store.load(["$$ROOT"]) == {"$$ROOT": odd}
        found = await store.list(Filter(name="$name", labels=(("$a.b\0", "$c"),)))
        assert found.workflows == [odd]

    async def test_pages_are_bounded_in_bytes(
        self, connect: Connect, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(mongo_state_store, "PAGE_BYTES", 100_000)
        store = MongoStateStore(connect())
        sizes = [30_000] * 10 + [150_000] * 2
        await store.save(
            [summary(f"w{n:02}", output="x" * s) for n, s in enumerate(sizes)], offset=1
        )
        page = await store.list(Filter())
        pages = [[found.workflow_id for found in page.workflows]]
        while page.cursor is not None:
            page = await store.list(Filter(cursor=page.cursor))
            pages.append([found.workflow_id for found in page.workflows])
        assert [len(ids) for ids in pages] == [1, 1, 3, 3, 3, 1]
        assert [id_ for ids in pages for id_ in ids] == [f"w{n:02}" for n in reversed(range(12))]
        after, seen = "", list[str]()
        while rows := await store.unfinished(after_id=after, limit=100):
            after = rows[-1].workflow_id
            seen += [row.workflow_id for row in rows]
        assert seen == sorted(id_ for ids in pages for id_ in ids)


class TestCatalogs:
    async def test_one_of_two_contents_is_the_version(self, connect: Connect) -> None:
        for round_ in range(5):
            outcomes = await self._publish(
                connect, [definition(f"d{round_}", digest) for digest in "abcd"]
            )
            assert outcomes.count(True) == 1
            assert sum(isinstance(outcome, Conflict) for outcome in outcomes) == 3
            assert await MongoCatalog(connect()).revision() == round_ + 1

    async def test_the_same_content_is_stored_once(self, connect: Connect) -> None:
        outcomes = await self._publish(connect, [definition()] * 4)
        assert sorted(map(str, outcomes)) == ["False", "False", "False", "True"]
        assert await MongoCatalog(connect()).revision() == 1

    async def test_one_definition_gets_the_request_type(self, connect: Connect) -> None:
        for round_ in range(5):
            named = [definition(f"{name}{round_}", request_type=f"t{round_}") for name in "abcd"]
            outcomes = await self._publish(connect, named)
            assert outcomes.count(True) == 1
            assert sum(isinstance(outcome, Conflict) for outcome in outcomes) == 3
            catalog = MongoCatalog(connect())
            bound = await catalog.by_request_type(f"t{round_}")
            assert bound == named[outcomes.index(True)]
            assert len(await catalog.list()) == await catalog.revision() == round_ + 1

    async def test_every_change_counts(self, connect: Connect) -> None:
        catalogs = [MongoCatalog(connect()) for _ in range(4)]
        await catalogs[0].publish(definition("old"))
        changes: list[Awaitable[object]] = [
            catalog.publish(definition(f"d{number}")) for number, catalog in enumerate(catalogs)
        ]
        changes += [
            catalogs[1].retire("n", "old", "1.0.0"),
            catalogs[2].retire("n", "old", "1.0.0"),
        ]
        changes += [
            catalog.put_services([Service(name=f"s{number}", base_url="http://s")])
            for number, catalog in enumerate(catalogs)
        ]
        await asyncio.gather(*changes)
        assert await catalogs[3].revision() == 1 + 4 + 1 + 4
        assert len(await catalogs[3].services()) == 4

    async def test_large_sources(self, connect: Connect) -> None:
        large = definition(source=b'"' + b"x" * 1_048_574 + b'"', text="y" * 1_048_576)
        catalog = MongoCatalog(connect())
        assert await catalog.publish(large)
        assert await catalog.find("n", "d") == large

    async def _publish(
        self, connect: Connect, definitions: list[StoredDefinition]
    ) -> list[bool | BaseException]:
        catalogs = [MongoCatalog(connect()) for _ in definitions]
        await asyncio.gather(*(catalog.revision() for catalog in catalogs))
        pairs = zip(catalogs, definitions, strict=True)
        publishing = (catalog.publish(definition) for catalog, definition in pairs)
        return await asyncio.gather(*publishing, return_exceptions=True)


class TestDeliveries:
    async def test_two_reporters_add_the_same(self, connect: Connect) -> None:
        made = [delivery(f"d{number}", "w", number) for number in range(200)]
        outboxes = [MongoDeliveries(connect()) for _ in range(3)]
        await asyncio.gather(*(outbox.add(made, offset=7) for outbox in outboxes))
        assert await outboxes[0].list(limit=999) == made

    async def test_a_workflow_that_waits_hides_nobody(
        self, connect: Connect, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(mongo_deliveries, "CANDIDATES", 7)
        outbox = MongoDeliveries(connect())
        waits = delivery("first", "blocked", 0, next_attempt_at_ms=1_000)
        behind = [delivery(f"b{number}", "blocked", number) for number in range(1, 50)]
        others = [
            delivery(f"o{number}", f"w{number}", 0, next_attempt_at_ms=5) for number in range(9)
        ]
        await outbox.add([*behind, waits, *others], offset=1)
        assert await outbox.due(now_ms=10, limit=99) == others
        assert await outbox.due(now_ms=10, limit=3) == others[:3]
        assert await outbox.due(now_ms=1_000, limit=99) == [*others, waits]


async def test_a_crowd_that_leaves_does_not_wedge_the_driver(connect: Connect) -> None:
    """Two cancellations of one call, as of a client that goes when its time is up, did."""
    catalog = MongoCatalog(connect())
    crowd = [asyncio.create_task(catalog.revision()) for _ in range(CROWD)]
    for turns in range(LEAVING_TURNS):
        for one in crowd[turns::LEAVING_TURNS]:
            one.cancel()
        await asyncio.sleep(0)
        for one in crowd[turns::LEAVING_TURNS]:
            one.cancel()
        await asyncio.sleep(LEAVING_S / LEAVING_TURNS)
    _, waiting = await asyncio.wait(crowd, timeout=TIMEOUT_MS / 1_000 + SLACK_S)
    assert not waiting
    async with asyncio.timeout(TIMEOUT_MS / 1_000 + SLACK_S):
        assert await catalog.revision() == 0
