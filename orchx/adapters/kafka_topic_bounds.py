"""Where topics begin and end, and who takes commands: asked once, by an operator's command."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from kafka import KafkaConsumer, TopicPartition
from kafka.admin import KafkaAdminClient
from kafka.errors import (
    CoordinatorLoadInProgressError,
    CoordinatorNotAvailableError,
    NotCoordinatorError,
    UnknownTopicOrPartitionError,
)

from orchx.adapters.kafka_connection import (
    DRIVER_ERRORS,
    Topics,
    group_of,
    open_client,
    translated,
)
from orchx.errors import DriverError
from orchx.settings import KafkaSettings

CLOSE_TIMEOUT_MS: Final = 2_000
PAUSE_S: Final = 0.2

_NO_COORDINATOR: Final = (
    CoordinatorLoadInProgressError,
    CoordinatorNotAvailableError,
    NotCoordinatorError,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """Kafka's offsets of a topic's partitions: the first record, and the next one to come."""

    first: Mapping[int, int]
    end: Mapping[int, int]

    @property
    def records(self) -> int:
        """How many records there are at most: offsets may have holes."""
        return sum(end - self.first[partition] for partition, end in self.end.items())


def bounds_of(settings: KafkaSettings, topic: str) -> Bounds:
    """Return a topic's bounds; blocks.

    Raises:
        DriverError: Kafka is out of reach, or there is no such topic.
    """
    consumer = open_client(KafkaConsumer, settings, "bounds", allow_auto_create_topics=False)
    try:
        found = consumer.partitions_for_topic(topic)
        if not found:
            raise UnknownTopicOrPartitionError(topic)
        places = [TopicPartition(topic, partition) for partition in sorted(found)]
        timeout_ms = settings.request_timeout_ms
        first = consumer.beginning_offsets(places, timeout_ms=timeout_ms)
        end = consumer.end_offsets(places, timeout_ms=timeout_ms)
    except DRIVER_ERRORS as error:
        raise translated(error, settings, f"look at {topic}") from error
    finally:
        consumer.close(autocommit=False, timeout_ms=CLOSE_TIMEOUT_MS)
    return Bounds(
        first={place.partition: offset for place, offset in first.items()},
        end={place.partition: offset for place, offset in end.items()},
    )


def check_complete(settings: KafkaSettings) -> None:
    """Check that the log still has its first records; blocks.

    Raises:
        DriverError: some are gone, and with them what only they told.
    """
    topic = Topics(settings.topic_prefix).events
    first = bounds_of(settings, topic).first
    cut = {partition: offset for partition, offset in first.items() if offset}
    if cut:
        told = ", ".join(f"partition {p} begins at {offset}" for p, offset in sorted(cut.items()))
        raise DriverError(
            f"{topic} does not begin with its first record any more ({told}): it had a retention "
            "time, or records were deleted; what MongoDB has of them cannot be made from it again"
        )


def members_of_group(settings: KafkaSettings) -> list[str]:
    """Return the engines that share the commands' partitions just now; blocks.

    Raises:
        DriverError: Kafka is out of reach.
    """
    admin = open_client(KafkaAdminClient, settings, "members")
    group = group_of(settings)
    try:
        found = _described(admin, group, settings.request_timeout_ms / 1000)
    except DRIVER_ERRORS as error:
        raise translated(error, settings, f"look at the group {group}") from error
    finally:
        admin.close()
    return [f"{each['client_id']} {each['client_host']}" for each in found.get("members", ())]


def _described(admin: KafkaAdminClient, group: str, limit_s: float) -> Mapping[str, Any]:
    """Return what is known of a group, once Kafka has made the topic that it keeps groups in."""
    deadline_s = time.monotonic() + limit_s
    while True:
        try:
            found: Mapping[str, Any] = admin.describe_groups([group])[group]
        except _NO_COORDINATOR:
            if time.monotonic() > deadline_s:
                raise
            time.sleep(PAUSE_S)
        else:
            return found
