"""What callers and operators see when Kafka fails, on a broker that the test breaks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

import msgspec
import pytest
from kafka import KafkaAdminClient

from orchx.adapters.kafka_connection import Topics, open_client, partition_of
from orchx.adapters.kafka_dead_letters import KafkaDeadLetters
from orchx.adapters.kafka_topics import ensure_topics
from orchx.adapters.kafka_writer import KafkaWriter, Outgoing
from orchx.domain import events as e
from orchx.errors import DriverError
from orchx.ports.dead_letters import DeadLetter
from orchx.settings import KafkaSettings, Settings
from orchx.stores import prepare_stores
from tests import servers
from tests.integration.fault_rig import PARTITIONS, PATIENCE_S, Rig, fault_rig
from tests.own_servers import OwnServer, own_kafka, second_broker
from tests.unit.engine.histories import simple_run, started, turn

T = TypeVar("T")

pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OwnServer]:
    with own_kafka(tmp_path_factory.mktemp("broker")) as server:
        yield server


@pytest.fixture
async def rig(broker: OwnServer, tmp_path: Path) -> AsyncIterator[Rig]:
    kafka = servers.kafka(bootstrap_servers=(broker.address,))
    async with fault_rig(tmp_path, kafka, servers.mongodb(), servers.redis()) as rig:
        yield rig


async def administered(settings: KafkaSettings, work: Callable[[KafkaAdminClient], T]) -> T:
    """Do what an operator does to the broker."""

    def do() -> T:
        admin = open_client(KafkaAdminClient, settings, "operator")
        try:
            return work(admin)
        finally:
            admin.close()

    return await asyncio.to_thread(do)


def _newer(record: e.Record) -> e.Record:
    return msgspec.structs.replace(record, version=e.SCHEMA_VERSION + 1)


async def _kept(settings: KafkaSettings, count: int) -> Sequence[DeadLetter]:
    """Wait for so many dead letters."""
    letters = KafkaDeadLetters(settings)
    async with asyncio.timeout(PATIENCE_S):
        while len(found := (await letters.list(handled=False)).letters) < count:  # noqa: ASYNC110
            await asyncio.sleep(0.1)
    await letters.close()
    return found


async def test_a_broker_that_goes_and_comes_back(rig: Rig, broker: OwnServer) -> None:
    broker.kill()
    await rig.not_ready("kafka", "ORCHX_KAFKA__BOOTSTRAP_SERVERS", broker.address)
    with pytest.raises(DriverError, match="ORCHX_KAFKA__BOOTSTRAP_SERVERS"):
        await rig.log.append(simple_run("wf_lost"))
    await rig.is_refused()
    await broker.restart()
    await rig.recovers()
    await rig.log.append(simple_run("wf_kept"))
    assert (await rig.gateway.show("wf_kept")).status == "completed"


async def test_too_few_replicas_in_sync(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    # A broker that says nothing for three seconds counts as gone, not only after nine.
    soon = {"broker.session.timeout.ms": "3000", "broker.heartbeat.interval.ms": "500"}
    with (
        own_kafka(tmp_path_factory.mktemp("first"), soon) as first,
        second_broker(first, tmp_path_factory.mktemp("second")) as second,
    ):
        kafka = servers.kafka(
            bootstrap_servers=(first.address,), replication_factor=2, min_insync_replicas=2
        )
        async with fault_rig(tmp_path, kafka, servers.mongodb(), servers.redis()) as rig:
            second.kill()
            parts = await rig.not_ready("kafka", "needs 2 replicas in sync", "partition 0 has 1")
            assert "ORCHX_KAFKA__MIN_INSYNC_REPLICAS" in parts["kafka"]
            with pytest.raises(DriverError, match="ORCHX_KAFKA__MIN_INSYNC_REPLICAS"):
                await rig.log.append(simple_run("wf_lost"))
            await rig.is_refused()
            await second.restart()
            await rig.recovers()


async def test_a_topic_that_is_deleted_and_made_anew(rig: Rig) -> None:
    """What it held is gone: nothing goes on by itself that looks as if it were not."""
    settings = rig.settings.kafka
    commands = Topics(settings.topic_prefix).commands
    await administered(settings, lambda admin: admin.delete_topics([commands]))
    await rig.not_ready("kafka", f"the topic {commands} does not exist", "TOPIC_PREFIX")
    await rig.is_refused()
    await asyncio.to_thread(ensure_topics, settings)
    await rig.not_ready("kafka", f"{commands} was deleted and made anew")


async def test_a_record_of_a_newer_release(rig: Rig) -> None:
    later = turn("wf_later", 1, "owner-b", [e.WorkflowActivated(), started()])
    partition = partition_of("wf_later", PARTITIONS)
    await rig.log.append([_newer(record) for record in later])
    parts = await rig.not_ready("projection", "install the newer release", "wf_later")
    assert f"partition {partition}" in parts["projection"]
    with pytest.raises(DriverError, match="schema version 2"):
        await rig.log.read("wf_later")
    other = next(f"wf_{n}" for n in range(99) if partition_of(f"wf_{n}", PARTITIONS) != partition)
    await rig.log.append(simple_run(other))
    assert len(await rig.log.read(other)) == len(simple_run(other))


async def test_records_that_are_astray_or_foreign_are_kept_aside(rig: Rig) -> None:
    settings = rig.settings.kafka
    topics = Topics(settings.topic_prefix)
    astray = (partition_of("wf_x", PARTITIONS) + 1) % PARTITIONS
    await rig.log.append(simple_run("wf_x"))
    command = b'{"kind":"cancel","id":"c","workflow_id":"wf_x","created_at_ms":1}'
    value = b'{"epoch":9,"owner":"stranger","records":[[0,1,null,1,{"type":"workflow.activated"}]]}'
    foreign = [
        Outgoing(topic=topic, partition=number, key=b"wf_x", value=b"foreign")
        for topic in (topics.events, topics.commands)
        for number in range(PARTITIONS)
    ]
    writer = KafkaWriter(settings, "stranger")
    await writer.send(
        [
            Outgoing(
                topic=topics.events,
                partition=astray,
                key=b"wf_x",
                value=value,
                headers=[("activates", b"9")],
            ),
            Outgoing(topic=topics.commands, partition=astray, key=b"wf_x", value=command),
            *foreign,
        ]
    )
    await writer.close()
    await rig.recovers()
    assert (await rig.gateway.show("wf_x")).status == "completed"
    assert await rig.log.epochs(["wf_x"]) == {"wf_x": 1}
    assert await rig.queue.find("c") is None
    letters = await _kept(settings, 2 + len(foreign))
    home = partition_of("wf_x", PARTITIONS)
    stray = [letter.error for letter in letters if "partition is" in letter.error]
    assert sorted(stray) == [
        f"the command's partition is {home} of {PARTITIONS}",
        *[f"the workflow's partition is {home} of {PARTITIONS}"] * 2,  # the foreign one too
    ]


async def test_none_at_the_start_is_told_in_time(unused_tcp_port: int) -> None:
    settings = Settings(
        profile="kafka",
        kafka=KafkaSettings(
            bootstrap_servers=(f"127.0.0.1:{unused_tcp_port}",), request_timeout_ms=1_000
        ),
    )
    with pytest.raises(DriverError, match="ORCHX_KAFKA__BOOTSTRAP_SERVERS"):
        await prepare_stores(settings)
