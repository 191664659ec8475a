"""`orchx repartition` on real servers: nothing is lost, doubled or out of order."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Sequence

import pytest
from kafka import TopicPartition
from kafka.admin import KafkaAdminClient

from orchx.adapters import kafka_sealing
from orchx.adapters.kafka_connection import Topics, open_client, partition_of
from orchx.adapters.kafka_topic_bounds import bounds_of
from orchx.adapters.kafka_topics import ensure_topics
from orchx.domain.events import Record, WorkflowCompleted
from orchx.domain.messages import CancelWorkflow, DeliverEvent
from orchx.engine.reprojection import Progress
from orchx.engine.routing import relayed_commands
from orchx.errors import Conflict, DriverError, InvalidRequest
from orchx.maintenance import replacing
from orchx.maintenance.repartitioning import next_prefix, repartition, undo
from orchx.maintenance.verifying import verify
from orchx.ports.event_log import Claim
from orchx.settings import Settings
from orchx.stores import KafkaStores, open_stores, prepare_stores
from orchx.testing.made_histories import appends, mixed_histories
from tests.integration.made_installation import (
    NOW_MS,
    command,
    drop_databases,
    kafka_settings,
    make,
    serving,
)

WORKFLOWS = 200
COMMANDS = 60
ACKNOWLEDGED = 25
BEFORE, PARTITIONS = 3, 7

pytestmark = pytest.mark.timeout(400)


EVENT = DeliverEvent(
    id="told",
    workflow_id="",
    created_at_ms=NOW_MS,
    event={"id": "e", "source": "s", "type": "t"},
)
RELAYED = relayed_commands(EVENT, [0, 1])


class CutShortError(Exception):
    """The command is gone."""


@pytest.fixture
async def settings() -> AsyncIterator[Settings]:
    """An installation whose last records and commands no engine has looked at."""
    made = await make(kafka_settings(BEFORE), WORKFLOWS // 2, COMMANDS)
    async with serving(made):
        pass
    stores = KafkaStores(made)
    log, queue = stores.event_log(), stores.command_queue(consumes=True)
    for records in appends(mixed_histories(WORKFLOWS // 2, first=WORKFLOWS // 2)):
        await log.append(records)
    # Of each workflow a second command, behind its first: their order has to hold.
    seconds = [
        CancelWorkflow(id=f"cancel{n}", workflow_id=f"wf_asked{n}", created_at_ms=NOW_MS)
        for n in range(COMMANDS)
    ]
    await queue.put([*seconds, *RELAYED])
    await queue.hold(range(BEFORE))
    pending = [one for _, one in await queue.pending(after_position=0, limit=1_000)]
    assert len(pending) == 2 * COMMANDS + len(RELAYED)
    # The first of each workflow, or of some: above the watermarks too.
    done = [one.id for one in pending if one.id.startswith("wf_")][:ACKNOWLEDGED]
    await queue.acknowledge([*done, RELAYED[0].id])
    for each in (log, queue, stores):
        await each.close()
    yield made
    await drop_databases(made)


def at(settings: Settings, prefix: str, partitions: int = PARTITIONS) -> Settings:
    kafka = settings.kafka.model_copy(update={"topic_prefix": prefix, "partitions": partitions})
    return settings.model_copy(update={"kafka": kafka})


def appended() -> dict[str, list[Record]]:
    histories: defaultdict[str, list[Record]] = defaultdict(list)
    for turn in mixed_histories(WORKFLOWS):
        histories[turn[0].workflow_id] += turn
    return histories


def unplaced(records: Sequence[Record]) -> list[tuple[object, ...]]:
    """Return what records say, wherever they stand."""
    return [
        (r.workflow_id, r.epoch, r.owner, r.seq, r.at_ms, r.event, r.traceparent) for r in records
    ]


async def waiting(settings: Settings) -> list[str]:
    stores = KafkaStores(settings)
    queue = stores.command_queue(consumes=True)
    await queue.hold(range(settings.kafka.partitions))
    pending = await queue.pending(after_position=0, limit=1_000)
    for each in (queue, stores):
        await each.close()
    return [one.id for _, one in pending]


def of_each_workflow(command_ids: Sequence[str]) -> dict[str, list[str]]:
    found: defaultdict[str, list[str]] = defaultdict(list)
    for command_id in command_ids:
        found[command_id.removeprefix("wf_asked").removeprefix("cancel")].append(command_id)
    return found


async def test_everything_is_there_once_and_in_order_and_goes_on(settings: Settings) -> None:
    before = [one for one in await waiting(settings) if one != RELAYED[1].id]
    assert len(before) == 2 * COMMANDS - ACKNOWLEDGED
    done = await repartition(settings, partitions=PARTITIONS)
    assert done.topic_prefix == f"{settings.kafka.topic_prefix}-2"
    assert done.commands == 2 * COMMANDS + PARTITIONS
    assert done.unacknowledged == len(before) + PARTITIONS
    assert sum(done.replaced.workflows.values()) == WORKFLOWS

    moved = await prepare_stores(at(settings, done.topic_prefix, partitions=1))
    assert moved.kafka.partitions == PARTITIONS
    after = await waiting(moved)
    # What was relayed to a part of the listeners is relayed to where they are now.
    everywhere = {one.id for one in relayed_commands(EVENT, range(PARTITIONS))}
    assert everywhere <= set(after)
    after = [one for one in after if one not in everywhere]
    assert sorted(after) == sorted(before)
    assert of_each_workflow(after) == of_each_workflow(before)

    stores = KafkaStores(moved)
    await stores.presence().leave("engine")
    log, queue = stores.event_log(), stores.command_queue()
    for workflow_id, history in appended().items():
        assert unplaced(await log.read(workflow_id)) == unplaced(history)
    for partition in range(PARTITIONS):
        for record in await log.tail(0, limit=10_000, partition=partition):
            assert partition_of(record.workflow_id, PARTITIONS) == partition
    # All ids are known still, and the unfinished go on.
    known = await queue.put([command(f"wf_asked{n}", n) for n in range(COMMANDS)])
    assert all(one.duplicate for one in known)
    unfinished = f"wf_made{7:016d}"
    claimed = await log.claim(Claim(workflow_id=unfinished, owner="next", at_ms=NOW_MS))
    assert claimed.epoch == 2
    ending = Record(
        workflow_id=unfinished,
        epoch=2,
        owner="next",
        seq=1,
        at_ms=NOW_MS,
        event=WorkflowCompleted(output=None),
    )
    await log.append([ending])
    for each in (log, queue, stores):
        await each.close()
    async with serving(moved):
        verdict = await verify(moved)
    assert verdict.equal
    assert not verdict.behind


async def test_the_old_place_is_shut(settings: Settings) -> None:
    stores = KafkaStores(settings)
    late = stores.event_log()  # of an owner that nobody knows of
    assert await late.last_offset(0)
    engine = open_stores(settings)  # which goes on when it is back, and knows where it was
    assert isinstance(engine, KafkaStores)
    states, outbox, archive = engine.state_store(), engine.deliveries(), engine.archive()
    queue = engine.command_queue(consumes=True)
    projected = await states.offset(0)
    done = await repartition(settings, partitions=PARTITIONS, to=f"{settings.kafka.topic_prefix}x")
    with pytest.raises(DriverError, match="has sealed the topic"):
        await late.append(next(iter(mixed_histories(1))))
    with pytest.raises(DriverError, match="orchx repartition"):
        await prepare_stores(settings)
    with pytest.raises(Conflict, match=f"ORCHX_KAFKA__TOPIC_PREFIX={done.topic_prefix}"):
        await repartition(settings, partitions=PARTITIONS)
    history = next(iter(appends(mixed_histories(1))))
    moved = f"ORCHX_KAFKA__TOPIC_PREFIX={done.topic_prefix}"
    behind = projected + 1_000
    with pytest.raises(DriverError, match=moved):
        await archive.add(history, offset=behind, partition=0)
    with pytest.raises(DriverError, match=moved):
        await states.save([], offset=behind, partition=0)
    with pytest.raises(DriverError, match=moved):
        await outbox.add([], offset=behind, partition=0)
    with pytest.raises(DriverError, match=moved):
        await queue.hold(range(BEFORE))
    with pytest.raises(DriverError, match=moved):
        await engine.probes().needed["mongodb"].check()
    assert (await verify(at(settings, done.topic_prefix))).equal
    for each in (late, queue, states, engine, stores):
        await each.close()


@pytest.mark.parametrize("stage", ["projecting", "sealing the commands", "copying"])
async def test_one_that_was_cut_short_is_run_again(settings: Settings, stage: str) -> None:
    before = await waiting(settings)

    def stop(progress: Progress) -> None:
        if progress.stage.startswith(stage):
            raise CutShortError

    with pytest.raises(CutShortError):
        await repartition(settings, partitions=PARTITIONS, told=stop)
    with pytest.raises(DriverError, match="orchx repartition"):
        await prepare_stores(settings)
    with pytest.raises(Conflict, match="was begun"):
        await repartition(settings, partitions=PARTITIONS + 1)
    done = await repartition(settings, partitions=PARTITIONS)
    moved = at(settings, done.topic_prefix)
    assert set(before) <= set(await waiting(moved))
    verdict = await verify(moved)
    assert verdict.equal
    [states] = [each for each in verdict.stores if each.store == "workflows"]
    assert states.live == WORKFLOWS


async def test_one_that_was_cut_short_after_its_switch_is_finished_by_a_rebuild(
    settings: Settings,
) -> None:
    switched: list[str] = []

    def stop(progress: Progress) -> None:
        switched.append(progress.stage)
        if progress.stage == "projecting" and "sealing the commands" in switched:
            raise CutShortError

    with pytest.raises(CutShortError):
        await repartition(settings, partitions=PARTITIONS, told=stop)
    moved = at(settings, next_prefix(settings.kafka.topic_prefix))
    with pytest.raises(Conflict, match="ORCHX_KAFKA__TOPIC_PREFIX="):
        await repartition(settings, partitions=PARTITIONS)
    with pytest.raises(DriverError, match="orchx rebuild --replace"):
        await prepare_stores(moved)
    replaced = await replacing.replace(moved)
    assert sum(replaced.workflows.values()) == WORKFLOWS
    assert (await verify(moved)).equal
    await prepare_stores(moved)


async def test_one_that_was_cut_short_is_undone(settings: Settings) -> None:
    before = await waiting(settings)
    with pytest.raises(Conflict, match="no `orchx repartition` was begun"):
        await undo(settings)

    def stop(progress: Progress) -> None:
        if progress.stage.startswith("copying"):
            raise CutShortError

    with pytest.raises(CutShortError):
        await repartition(settings, partitions=PARTITIONS, told=stop)
    await undo(settings)
    again = await prepare_stores(settings)
    stores = KafkaStores(again)
    await stores.presence().leave("engine")
    log = stores.event_log()
    await log.append(next(iter(mixed_histories(1))))
    for each in (log, stores):
        await each.close()
    assert sorted(await waiting(again)) == sorted(before)
    assert (await verify(again)).equal
    topics = Topics(next_prefix(settings.kafka.topic_prefix))
    names = [topics.events, topics.commands]
    assert await asyncio.to_thread(kafka_sealing.existing, settings.kafka, names) == []


async def test_what_cannot_be_done_changes_nothing(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replacing, "LEAVING_S", 0.0)
    async with serving(settings):
        with pytest.raises(Conflict, match="an engine was started"):
            await repartition(settings, partitions=PARTITIONS)
    with pytest.raises(Conflict, match="3 partitions already"):
        await repartition(settings, partitions=3)
    with pytest.raises(InvalidRequest, match="where the topics are now"):
        await repartition(settings, partitions=4, to=settings.kafka.topic_prefix)
    with pytest.raises(InvalidRequest, match="1 to 4096"):
        await repartition(settings, partitions=0)
    taken = at(settings, next_prefix(settings.kafka.topic_prefix), 2)
    await asyncio.to_thread(ensure_topics, taken.kafka)
    with pytest.raises(Conflict, match="exist already"):
        await repartition(settings, partitions=PARTITIONS)
    await prepare_stores(settings)


async def test_the_embedded_log_has_no_partitions_to_change() -> None:
    for attempt in (repartition(Settings(), partitions=2), undo(Settings())):
        with pytest.raises(InvalidRequest, match="embedded"):
            await attempt


@pytest.mark.parametrize(
    ("prefix", "following"),
    [("orchx", "orchx-2"), ("orchx-2", "orchx-3"), ("a-b", "a-b-2"), ("a-9", "a-10")],
)
def test_generations_are_counted(prefix: str, following: str) -> None:
    assert next_prefix(prefix) == following


async def test_what_waits_and_has_expired_on_the_topic_is_carried_over(settings: Settings) -> None:
    """Kafka has forgotten it; the index has not."""
    async with serving(settings):
        pass
    before = await waiting(settings)
    topic = Topics(settings.kafka.topic_prefix).commands
    ends = (await asyncio.to_thread(bounds_of, settings.kafka, topic)).end
    admin = await asyncio.to_thread(open_client, KafkaAdminClient, settings.kafka, "test")
    all_of_it = {TopicPartition(topic, partition): end for partition, end in ends.items()}
    await asyncio.to_thread(admin.delete_records, all_of_it)
    admin.close()
    done = await repartition(settings, partitions=PARTITIONS)
    moved = at(settings, done.topic_prefix)
    assert set(before) <= set(await waiting(moved))
    stores = KafkaStores(moved)
    queue = stores.command_queue()
    known = await queue.put([command(f"wf_asked{n}", n) for n in range(COMMANDS)])
    assert all(one.duplicate for one in known)
    for each in (queue, stores):
        await each.close()
    assert (await verify(moved)).equal
