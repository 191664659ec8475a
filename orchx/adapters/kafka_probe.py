"""Whether Kafka would take a record now, by what it says of its topics: nothing is written."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

from kafka import errors
from kafka.admin import ConfigResource, ConfigResourceType, KafkaAdminClient

from orchx.adapters.kafka_connection import DRIVER_ERRORS, Topics, open_client, translated
from orchx.errors import DriverError
from orchx.settings import KafkaSettings

TIMEOUT_MS: Final = 3_000  # of a question, less than what others may wait
MIN_INSYNC: Final = "min.insync.replicas"
SHOWN_PARTITIONS: Final = 5

_MISSING: Final = errors.UnknownTopicOrPartitionError.errno
_NO_LEADER: Final = -1


class KafkaProbe:
    """A `Probe`: every partition has a leader and enough replicas in sync, on one connection.

    Connects on first use, in a thread of its own; after a failure it connects anew.
    """

    def __init__(self, settings: KafkaSettings) -> None:
        """Look at the topics that a request goes through, from the queue to the log."""
        self._settings = settings.model_copy(
            update={"request_timeout_ms": min(settings.request_timeout_ms, TIMEOUT_MS)}
        )
        topics = Topics(settings.topic_prefix)
        self._names = (topics.commands, topics.events, topics.plans)
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="kafka-probe")
        self._admin: KafkaAdminClient | None = None
        self._identities: dict[str, str] = {}

    async def check(self) -> None:
        """Return if a record of any workflow would be durable now.

        Raises:
            DriverError: a topic is missing or was made anew, or has too few replicas in sync;
                or Kafka is out of reach.
        """
        await asyncio.get_running_loop().run_in_executor(self._thread, self._look)

    async def close(self) -> None:
        """End the connection and the thread."""
        await asyncio.get_running_loop().run_in_executor(self._thread, self._disconnect)
        self._thread.shutdown(wait=False)

    def _look(self) -> None:
        if self._admin is None:
            self._admin = open_client(KafkaAdminClient, self._settings, "probe")
        try:
            topics = self._admin.describe_topics(list(self._names))
            needed = needed_replicas(self._admin, self._names)
        except DRIVER_ERRORS as error:
            self._disconnect()
            raise translated(error, self._settings, "look at its topics") from error
        found = [*unwritable(topics, needed), *self._made_anew(topics)]
        if found:
            raise DriverError("; ".join(found))

    def _made_anew(self, topics: Sequence[Mapping[str, Any]]) -> Iterator[str]:
        """Yield a line for each topic that is not the one that this process has seen first."""
        for topic in topics:
            identity = topic.get("topic_id")
            if topic["error_code"] == 0 and identity is not None:
                name = topic["name"]
                if self._identities.setdefault(name, str(identity)) != str(identity):
                    yield (
                        f"{name} was deleted and made anew while orchx was running: what it held "
                        "is gone; stop orchx and see docs/runbook.md"
                    )

    def _disconnect(self) -> None:
        admin, self._admin = self._admin, None
        if admin is not None:
            with contextlib.suppress(*DRIVER_ERRORS):
                admin.close()


def unwritable(topics: Sequence[Mapping[str, Any]], needed: Mapping[str, int]) -> Iterator[str]:
    """Yield a line for each topic of which some partition takes no records.

    Args:
        topics: as an admin client describes them.
        needed: by topic, how many replicas have to be in sync.
    """
    for topic in sorted(topics, key=lambda topic: str(topic["name"])):
        name, code = topic["name"], topic["error_code"]
        if code == _MISSING:
            yield f"the topic {name} does not exist (see ORCHX_KAFKA__TOPIC_PREFIX)"
        elif code:
            problem: type[Exception] = errors.for_code(code)  # type: ignore[no-untyped-call]
            yield f"the topic {name} cannot be looked at: {problem.__name__}"
        else:
            yield from _partitions(name, topic["partitions"], needed.get(name, 1))


def _partitions(name: str, partitions: Sequence[Mapping[str, Any]], needed: int) -> Iterator[str]:
    faults = []
    for partition in sorted(partitions, key=lambda partition: int(partition["partition_index"])):
        number, in_sync = partition["partition_index"], len(partition["isr_nodes"])
        # Brokers ask for no more than there are (KIP-966); a start refuses such a topic.
        possible = min(needed, len(partition["replica_nodes"]))
        if partition["leader_id"] == _NO_LEADER:
            faults.append(f"partition {number} has no leader")
        elif in_sync < possible:
            faults.append(f"partition {number} has {in_sync}")
    if faults:
        more = "" if len(faults) <= SHOWN_PARTITIONS else ", …"
        yield (
            f"{name} needs {needed} replicas in sync ({MIN_INSYNC}) and cannot be written: "
            f"{', '.join(faults[:SHOWN_PARTITIONS])}{more}; start the missing brokers of "
            "ORCHX_KAFKA__BOOTSTRAP_SERVERS, or lower ORCHX_KAFKA__MIN_INSYNC_REPLICAS and the "
            "topic's own setting"
        )


def needed_replicas(admin: KafkaAdminClient, names: Sequence[str]) -> Mapping[str, int]:
    """Return each topic's `min.insync.replicas`; nothing of a broker that does not tell."""
    # All settings are asked for: Tansu hangs up on whoever names one.
    resources = [ConfigResource(ConfigResourceType.TOPIC, name) for name in names]
    try:
        found = admin.describe_configs(resources, config_filter="all").get("topic", {})
    except errors.UnknownTopicOrPartitionError:  # told by what describes them
        return {}
    return {
        name: int(configs[MIN_INSYNC]["value"])
        for name, configs in found.items()
        if MIN_INSYNC in configs
    }
