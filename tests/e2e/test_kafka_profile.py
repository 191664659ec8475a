"""The profile `kafka` on real servers: what a user does, and processes that die in the middle."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchx.sandbox.process import SandboxProcess
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
