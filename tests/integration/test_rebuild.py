"""`orchx rebuild` on real Kafka, MongoDB and Redis: what it proves, finds and makes anew."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import Any

import pytest
from pydantic import SecretStr

from orchx.adapters import mongo_presence
from orchx.adapters.kafka_connection import Topics, open_client
from orchx.adapters.loopback_ports import free_port
from orchx.adapters.mongo_archive import OFFSETS as ARCHIVED
from orchx.adapters.mongo_archive import TURNS
from orchx.adapters.mongo_command_index import COMMANDS
from orchx.adapters.mongo_command_index import PROGRESS as INDEXED
from orchx.adapters.mongo_connection import Layout, MongoConnection
from orchx.adapters.mongo_installation import MongoInstallation
from orchx.adapters.mongo_presence import PRESENCE
from orchx.adapters.mongo_state_store import WORKFLOWS
from orchx.adapters.redis_connection import RedisConnection
from orchx.adapters.redis_state_cache import entry_of
from orchx.domain.events import AnyEvent, EventEmitted, Record, WorkflowActivated
from orchx.engine.reprojection import Progress
from orchx.engine.verification import Verdict
from orchx.errors import Conflict, DriverError, TryLater
from orchx.maintenance import replacing
from orchx.maintenance.replacing import replace
from orchx.maintenance.verifying import copy_of, verify
from orchx.settings import Settings
from orchx.stores import KafkaStores, prepare_stores
from orchx.testing.made_histories import appends, mixed_histories
from tests.integration.made_installation import drop_databases, kafka_settings, make, serving

WORKFLOWS_MADE = 60
COMMANDS_MADE = 40
ONE = f"wf_made{0:016d}"

pytestmark = pytest.mark.timeout(400)


@pytest.fixture
async def settings() -> AsyncIterator[Settings]:
    """An installation with workflows that were projected; nobody serves it any more."""
    made = await make(kafka_settings(), WORKFLOWS_MADE, COMMANDS_MADE)
    async with serving(made):
        pass
    yield made
    await drop_databases(made)


class CutShortError(Exception):
    """The command is gone."""


def tally(verdict: Verdict, store: str) -> tuple[int, int, int]:
    [found] = [each for each in verdict.stores if each.store == store]
    return found.live, found.equal, found.differing


async def change(settings: Settings, layout: Layout, key: str | None, update: Any) -> None:
    """Do to a document what nobody should; None: delete it."""
    connection = MongoConnection(settings.mongodb)
    collection = await connection.collection(layout)
    where = {} if key is None else {"_id": key}
    if update is None:
        assert (await collection.delete_one(where)).deleted_count == 1
    else:
        assert (await collection.update_one(where, update)).modified_count == 1
    await connection.close()


async def differences(settings: Settings) -> Mapping[tuple[str, str], tuple[str, list[str]]]:
    verdict = await verify(settings)
    assert not verdict.equal
    return {
        (each.store, each.key): (each.kind, list(each.fields))
        for found in verdict.stores
        for each in found.differences
    }


async def test_nothing_differs_where_nothing_went_wrong(settings: Settings) -> None:
    told: list[Progress] = []
    verdict = await verify(settings, told=told.append)
    assert verdict.equal
    assert not verdict.behind
    assert tally(verdict, "workflows") == (WORKFLOWS_MADE, WORKFLOWS_MADE, 0)
    assert tally(verdict, "cache") == (WORKFLOWS_MADE, WORKFLOWS_MADE, 0)
    assert tally(verdict, "commands") == (COMMANDS_MADE, COMMANDS_MADE, 0)
    turns = sum(1 for _ in mixed_histories(WORKFLOWS_MADE))
    assert tally(verdict, "history") == (turns, turns, 0)
    last = [each for each in told if each.stage == "projecting"][-1]
    assert last.done == last.total > 0
    connection = MongoConnection(settings.mongodb)
    client = connection._open()
    assert copy_of(settings).mongodb.database not in await client.list_database_names()
    await connection.close()


async def test_each_tampered_document_is_named(settings: Settings) -> None:
    await change(settings, WORKFLOWS, ONE, {"$set": {"status": "waiting"}})
    other = f"wf_made{1:016d}"
    data = b'{"workflow_id":"' + other.encode() + b'","status":"completed"}'
    await change(settings, WORKFLOWS, other, {"$set": {"data": data}})
    missing = f"wf_made{2:016d}"
    await change(settings, WORKFLOWS, missing, None)
    await change(settings, COMMANDS, "wf_asked3", {"$set": {"payload": "{}"}})
    await change(settings, COMMANDS, "wf_asked4", None)
    found = await differences(settings)
    assert found == {
        ("workflows", ONE): ("differs", ["status"]),
        ("workflows", other): ("differs", ["data", "data is unreadable", *FIELDS]),
        ("workflows", missing): ("missing", []),
        ("commands", "wf_asked3"): ("differs", ["payload"]),
        ("commands", "wf_asked4"): ("missing", []),
    }


FIELDS = [
    "data.workflow_id",
    "data.status",
    "data.namespace",
    "data.name",
    "data.version",
    "data.tenant",
    "…",
]


async def test_a_tampered_turn_is_named(settings: Settings) -> None:
    connection = MongoConnection(settings.mongodb)
    turns = await connection.collection(TURNS)
    changed = await turns.find_one({"workflow_id": ONE}, sort=[("first", 1)])
    lost = await turns.find_one({"workflow_id": f"wf_made{1:016d}"})
    assert changed is not None
    assert lost is not None
    records = changed["records"].replace("tenant-0", "tenant-1")
    await turns.update_one({"_id": changed["_id"]}, {"$set": {"records": records}})
    await turns.delete_one({"_id": lost["_id"]})
    await turns.insert_one({**lost, "_id": "0/999999/1-3"})  # beyond the end: not there yet
    await connection.close()
    found = await differences(settings)
    assert {key: kind for (store, key), (kind, _) in found.items() if store == "history"} == {
        changed["_id"].rpartition("/")[0]: "differs",
        lost["_id"].rpartition("/")[0]: "missing",
    }
    [(_, fields)] = [each for each in found.values() if each[0] == "differs"]
    assert fields == [f"record {changed['first'] + 1}"]


async def test_a_tampered_entry_of_the_cache_is_named(settings: Settings) -> None:
    connection = RedisConnection(settings.redis)
    prefix = settings.kafka.topic_prefix
    keys = [entry_of(prefix, partition, ONE) for partition in range(3)]
    [(key, value)] = [
        (key, found) for key in keys for found in await connection.values([key]) if found
    ]
    await connection._open().set(key, value.replace(b'"tenant-0"', b'"tenant-9"'))
    await connection.close()
    assert await differences(settings) == {("cache", ONE): ("differs", ["tenant"])}


async def test_workflows_that_go_on_meanwhile_are_no_difference(settings: Settings) -> None:
    stores = KafkaStores(settings)
    log = stores.event_log()

    async def write() -> None:
        for records in appends(mixed_histories(WORKFLOWS_MADE, first=WORKFLOWS_MADE)):
            await log.append(records)

    async with serving(settings):
        writing = asyncio.create_task(write())
        while not writing.done():
            assert (await verify(settings)).equal
        await writing
        verdict = await verify(settings)
    assert verdict.equal
    await log.close()
    await stores.close()


async def test_what_was_not_projected_before_a_death_is_not_a_difference(
    settings: Settings,
) -> None:
    stores = KafkaStores(settings)
    log = stores.event_log()
    for records in appends(mixed_histories(20, first=WORKFLOWS_MADE)):
        await log.append(records)
    verdict = await verify(settings)
    assert verdict.equal
    assert verdict.behind
    assert not verdict.empty
    await log.close()
    await stores.close()


async def test_a_lost_redis_is_filled_again(settings: Settings) -> None:
    cache = KafkaStores(settings).cache()
    await cache.clear()
    await cache.close()
    verdict = await verify(settings)
    assert verdict.equal  # a cache may forget
    assert tally(verdict, "cache") == (0, 0, 0)
    done = await replace(settings)
    assert done.cached
    verdict = await verify(settings)
    assert verdict.equal
    assert tally(verdict, "cache") == (WORKFLOWS_MADE, WORKFLOWS_MADE, 0)


async def test_a_tampered_database_is_made_right(settings: Settings) -> None:
    await change(settings, WORKFLOWS, ONE, {"$set": {"status": "waiting"}})
    await change(settings, COMMANDS, "wf_asked4", None)
    await change(settings, TURNS, None, None)
    done = await replace(settings)
    assert sum(done.workflows.values()) == WORKFLOWS_MADE
    assert done.gaps == 0
    assert (await verify(settings)).equal
    await prepare_stores(settings)


async def test_a_lost_mongodb_is_made_anew_once_it_is_said_what_becomes_of_webhooks(
    settings: Settings,
) -> None:
    await drop_databases(settings)
    verdict = await verify(settings)
    assert not verdict.equal
    assert verdict.empty == [0, 1, 2]
    with pytest.raises(Conflict, match="--webhooks"):
        await replace(settings)
    done = await replace(settings, webhooks="skip")
    assert sum(done.workflows.values()) == WORKFLOWS_MADE
    assert (await verify(settings)).equal
    stores = KafkaStores(settings)
    log, outbox = stores.event_log(), stores.deliveries()
    for partition in range(3):
        assert await outbox.offset(partition) == await log.last_offset(partition)
    await log.close()
    await stores.close()


async def test_what_records_cause_is_queued_once(settings: Settings) -> None:
    """Those that no projector has seen: what stood there before was done."""
    stores = KafkaStores(settings)
    log, queue = stores.event_log(), stores.command_queue()
    emitted = EventEmitted(event={"id": "e-1", "source": "s", "type": "made"})
    events: tuple[AnyEvent, ...] = (WorkflowActivated(), emitted)
    for seq, event in enumerate(events):
        record = Record(
            workflow_id="wf_late", epoch=1, owner="o", seq=seq, at_ms=2_000_000_000_000, event=event
        )
        await log.append([record])
    before = (await queue.backlog()).total
    await replace(settings)
    assert (await queue.backlog()).total == before + 1
    await replace(settings)
    assert (await queue.backlog()).total == before + 1
    assert (await verify(settings)).equal
    for each in (log, queue, stores):
        await each.close()


async def test_one_that_was_cut_short_is_told_at_the_start_and_done_again(
    settings: Settings,
) -> None:
    stores = KafkaStores(settings)
    states = stores.state_store()
    heard = {p: await states.offset(p) for p in range(3)}
    await states.close()

    def stop(progress: Progress) -> None:
        if progress.stage == "projecting" and progress.done:
            raise CutShortError

    with pytest.raises(CutShortError):
        await replace(settings, told=stop)
    with pytest.raises(DriverError, match="orchx rebuild --replace"):
        await prepare_stores(settings)
    with pytest.raises(DriverError, match="orchx rebuild --replace"):
        await verify(settings)
    late = KafkaStores(settings, fenced=True)  # of an engine that comes back, and goes on
    with pytest.raises(DriverError, match="is being made anew"):
        await late.archive().offsets()
    await late.close()
    done = await replace(settings)
    assert done.heard == heard  # though the database has forgotten how far it was
    assert (await verify(settings)).equal
    await prepare_stores(settings)


async def test_nothing_is_replaced_beneath_an_engine(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replacing, "LEAVING_S", 0.0)
    async with serving(settings):
        with pytest.raises(Conflict, match="an engine was started"):
            await replace(settings)
    monkeypatch.undo()
    stores = KafkaStores(settings)
    await stores.presence().note("engine", for_s=60)
    refused = asyncio.create_task(replace(settings))
    while not refused.done():
        await stores.presence().note("engine", for_s=60)
        await asyncio.sleep(0.05)
    with pytest.raises(Conflict, match="an engine serves"):
        await refused
    await stores.presence().leave("engine")
    async with stores.presence().alone("maintenance"):
        with pytest.raises(Conflict, match="another command"):
            await replace(settings)
        with pytest.raises(Conflict, match="is at work"):
            await verify(settings)
        with pytest.raises(Exception, match="start when it is done"):
            await prepare_stores(settings)
    async with stores.presence().alone("verification"):
        with pytest.raises(Conflict, match="another command"):
            await verify(settings)
        with pytest.raises(Conflict, match="looks at it just now"):
            await replace(settings)
    await replace(settings)
    await stores.close()


async def test_a_log_that_lacks_its_beginning_is_refused(settings: Settings) -> None:
    from kafka import KafkaAdminClient, TopicPartition

    admin = await asyncio.to_thread(open_client, KafkaAdminClient, settings.kafka, "test")
    topic = Topics(settings.kafka.topic_prefix).events
    await asyncio.to_thread(admin.delete_records, {TopicPartition(topic, 1): 5})
    admin.close()
    for attempt in (verify, replace):
        with pytest.raises(DriverError, match="partition 1 begins at 5"):
            await attempt(settings)
    connection = MongoConnection(settings.mongodb)
    assert await (await connection.collection(ARCHIVED)).count_documents({})
    await connection.close()


async def test_an_index_that_knows_more_than_its_topic_is_no_reason_to_wait(
    settings: Settings,
) -> None:
    """As after a topic was made anew: nothing more will come."""
    await change(settings, INDEXED, "indexed", {"$inc": {"next.0": 1_000}})
    assert (await verify(settings)).equal


async def test_nothing_is_begun_while_redis_is_away(settings: Settings) -> None:
    away = settings.redis.model_copy(
        update={"url": SecretStr(f"redis://127.0.0.1:{free_port()}/0")}
    )
    with pytest.raises((DriverError, TryLater), match="Redis"):
        await replace(settings.model_copy(update={"redis": away}))
    await prepare_stores(settings)


async def test_no_other_installation_is_dropped_for_the_copy(settings: Settings) -> None:
    other = MongoConnection(copy_of(settings).mongodb)
    await MongoInstallation(other).bind(topic_prefix="theirs", partitions=1)
    with pytest.raises(Conflict, match="ORCHX_MONGODB__DATABASE"):
        await verify(settings)
    assert await MongoInstallation(other).bound() == ("theirs", 1)
    await other.close()


async def test_a_command_that_has_lost_its_place_is_ended(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mongo_presence, "RENEWAL_S", 0.05)
    stores = KafkaStores(settings)

    async def work() -> None:
        async with stores.presence().alone("maintenance"):
            await change(settings, PRESENCE, "maintenance", {"$set": {"holder": "another"}})
            await asyncio.Event().wait()

    with pytest.raises(DriverError, match="another command has come"):
        await asyncio.wait_for(work(), 60)
    # And the other one keeps it.
    assert await stores.presence().is_here("maintenance")
    await stores.close()
