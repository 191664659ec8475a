"""The profile `kafka` on real servers: what a user does, and processes that die in the middle."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import msgspec
import pytest

from orchx.adapters.kafka_connection import Topics
from orchx.adapters.kafka_writer import KafkaWriter, Outgoing
from orchx.domain.events import Request
from orchx.domain.messages import StartWorkflow
from orchx.sandbox.process import SandboxProcess
from orchx.settings import KafkaSettings
from tests import servers
from tests.e2e.conditions import eventually
from tests.e2e.errands import SUM_EFFECTS
from tests.e2e.kafka_servers import KafkaInstallation
from tests.e2e.sandbox_ledger import SandboxLedger
from tests.e2e.server_process import ServerProcess
from tests.e2e.test_kill import Disaster

PARTITIONS = 3

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def kafka_server(
    sandbox: SandboxProcess, services_file: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ServerProcess]:
    """A server whose stores are Kafka, MongoDB and Redis."""
    installation = KafkaInstallation(services_file, partitions=PARTITIONS)
    server = installation.engine(tmp_path_factory.mktemp("kafka-server"), authentication=True)
    try:
        server.start()
        yield server
        server.stop()
    finally:
        server.kill()


def test_it_tells_what_it_needs_and_how_far_behind_it_is(kafka_server: ServerProcess) -> None:
    parts = httpx.get(f"{kafka_server.url}/readyz", timeout=15).json()["parts"]
    needed = {"queue", "log", "projection", "dispatcher", "kafka", "mongodb", "redis"}
    assert parts == dict.fromkeys(needed, "ok")

    def lags() -> set[str]:
        headers = kafka_server.authorization
        told = httpx.get(f"{kafka_server.url}/metrics", headers=headers, timeout=15).text
        return set(re.findall(r"^(orchx_\w+_lag)(?:\{[^}]*\})? ", told, re.MULTILINE))

    wanted = {"orchx_projector_lag", "orchx_reporter_lag", "orchx_command_index_lag"}
    eventually(lambda: wanted <= lags() or None, "gauges of all lags")


@pytest.mark.parametrize("kind", ["dispatcher", "owner-shared-0", "projector"])
def test_an_actors_death_loses_and_doubles_nothing(
    kafka_server: ServerProcess, ledger: SandboxLedger, kind: str
) -> None:
    disaster = Disaster(kafka_server, ledger, kind, "kafka")
    killed = kafka_server.actor_pid(kind)
    submissions = disaster.run_until_in_flight()
    disaster.strike(killed)
    back_s = disaster.back(kind, killed)
    disaster.has_healed(submissions, back_s=back_s)


def test_the_death_of_everything_loses_and_doubles_nothing(
    kafka_server: ServerProcess, ledger: SandboxLedger
) -> None:
    disaster = Disaster(kafka_server, ledger, "everything", "kafka")
    submissions = disaster.run_until_in_flight()
    disaster.killed_s = time.monotonic()
    kafka_server.kill()
    kafka_server.start()
    disaster.has_healed(submissions, back_s=time.monotonic() - disaster.killed_s)


def test_an_owner_that_was_frozen_beyond_its_lease_is_fenced(
    kafka_server: ServerProcess, ledger: SandboxLedger
) -> None:
    """It comes back, and writes on into the log: nobody believes it."""
    disaster = Disaster(kafka_server, ledger, "frozen", "kafka")
    disaster.freeze_beyond_the_lease("owner-shared-0")


def test_a_command_that_could_not_be_read_is_mended_and_runs_once(
    kafka_server: ServerProcess, ledger: SandboxLedger
) -> None:
    workflow_id = f"wf_{servers.own_name()}"
    with kafka_server.client() as client:
        command = StartWorkflow(
            id=workflow_id,
            workflow_id=workflow_id,
            created_at_ms=time.time_ns() // 1_000_000,
            namespace="e2e",
            name="sum",
            version="1.0.0",
            digest=client.definitions.show("e2e", "sum", "1.0.0").digest,
            input={"name": workflow_id},
            request=Request(),
        )
        whole = msgspec.json.encode(command)
        asyncio.run(_write_as_a_stranger(kafka_server.settings.kafka, whole[:-20]))
        (letter,) = eventually(lambda: client.dead_letters.list().dead_letters, "a dead letter")
        assert letter.kind == "command"
        (refused,) = client.dead_letters.replay([letter.number])
        assert "no command of this release" in str(refused.error)
        for replayed in (False, True):
            (done,) = client.dead_letters.replay([letter.number], value=whole.decode())
            assert (done.command_id, done.replayed, done.error) == (workflow_id, replayed, None)
        assert client.show(workflow_id, consistency="strong").age_ms == 0
        ended = client.wait(workflow_id, timeout_s=60)
        assert ended.status == "completed"
        assert client.show(workflow_id, consistency="strong").status == "completed"
        assert not client.dead_letters.list().dead_letters
        (handled,) = client.dead_letters.list(handled=True).dead_letters
        assert handled.handled is not None
        assert handled.handled.how == "replayed"
        history = list(client.history(workflow_id))
    assert sum(event.type.endswith("workflow.started.v1") for event in history) == 1
    assert ledger.check([workflow_id], SUM_EFFECTS) == (0, 0)


async def _write_as_a_stranger(settings: KafkaSettings, value: bytes) -> None:
    writer = KafkaWriter(settings, "stranger")
    topic = Topics(settings.topic_prefix).commands
    await writer.send([Outgoing(topic=topic, partition=0, key=b"w", value=value)])
    await writer.close()
