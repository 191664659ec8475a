"""Servers of the profile `kafka`: one installation, and the engines that share it."""

from __future__ import annotations

from pathlib import Path

from tests import servers
from tests.e2e.server_process import ServerProcess

DEFINITIONS = Path(__file__).parent / "definitions"


class KafkaInstallation:
    """Topics, databases and keys of one test's own.

    Args:
        services_file: describes the services that workflows call.
        partitions: of the topics.
        kafka: more of Kafka's settings.
    """

    def __init__(self, services_file: Path, *, partitions: int, **kafka: object) -> None:
        self.settings = servers.stores(servers.apache_kafka(partitions=partitions, **kafka))
        self._services_file = services_file
        self.environment = {
            **servers.environment(self.settings),
            **{f"ORCHX_KAFKA__{name.upper()}": str(value) for name, value in kafka.items()},
        }

    def move(self, topic_prefix: str, partitions: int) -> None:
        """Have the topics elsewhere, for engines that are started from now on."""
        self.environment["ORCHX_KAFKA__TOPIC_PREFIX"] = topic_prefix
        changed = {"topic_prefix": topic_prefix, "partitions": partitions}
        kafka = self.settings.kafka.model_copy(update=changed)
        self.settings = self.settings.model_copy(update={"kafka": kafka})

    def engine(self, folder: Path, *, authentication: bool = False) -> ServerProcess:
        """Return one more engine, which is to be started."""
        return ServerProcess(
            folder,
            arguments=(
                *("--services", str(self._services_file)),
                *("--definitions", str(DEFINITIONS)),
                *("--tasks", "tests.e2e.errand_functions"),
            ),
            authentication=authentication,
            environment=self.environment,
            settings=self.settings,
        )
