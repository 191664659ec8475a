"""Closing topics for good, so that no process, however late, writes to them; and deleting them.

A topic whose largest message is of 0 bytes refuses every append, whoever sends it.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Final

from kafka.admin import ConfigResource, ConfigResourceType, KafkaAdminClient
from kafka.errors import UnknownTopicOrPartitionError

from orchx.adapters.kafka_connection import DRIVER_ERRORS, open_client, translated
from orchx.adapters.kafka_topic_bounds import bounds_of
from orchx.adapters.kafka_topics import MESSAGE_BYTES_MAX, SEALED
from orchx.errors import DriverError
from orchx.settings import KafkaSettings

SETTLE_S: Final = 2.0
"""Brokers hear of a change within milliseconds; a topic that does not grow for so long is shut."""

SETTLE_MAX_S: Final = 60.0
DELETE_MAX_S: Final = 60.0
POLL_S: Final = 0.2

DONE: Final = "OK"

_MISSING: Final = UnknownTopicOrPartitionError.errno


def seal(settings: KafkaSettings, topic: str) -> None:
    """Have a topic take no more records; returns when that holds; blocks.

    Raises:
        DriverError: Kafka is out of reach, or forbids it, or the topic still grows.
    """
    _alter(settings, topic, SEALED)
    deadline_s = time.monotonic() + SETTLE_MAX_S
    before = bounds_of(settings, topic).end
    while True:
        time.sleep(SETTLE_S)
        now = bounds_of(settings, topic).end
        if now == before:
            return
        if time.monotonic() > deadline_s:
            raise DriverError(f"{topic} still grows, {SETTLE_MAX_S:g} s after it was sealed")
        before = now


def unseal(settings: KafkaSettings, topic: str) -> None:
    """Have a topic take records again; blocks.

    Raises:
        DriverError: Kafka is out of reach, or forbids it.
    """
    _alter(settings, topic, str(MESSAGE_BYTES_MAX))


def existing(settings: KafkaSettings, topics: Sequence[str]) -> list[str]:
    """Return those topics that there are; blocks.

    Raises:
        DriverError: Kafka is out of reach.
    """
    admin = open_client(KafkaAdminClient, settings, "topics")
    try:
        return _existing(admin, topics)
    except DRIVER_ERRORS as error:
        raise translated(error, settings, f"look for {', '.join(topics)}") from error
    finally:
        admin.close()


def delete(settings: KafkaSettings, topics: Sequence[str]) -> None:
    """Delete topics, where they exist, and wait until they have gone; blocks.

    Raises:
        DriverError: Kafka is out of reach, or forbids it, or they do not go.
    """
    admin = open_client(KafkaAdminClient, settings, "topics")
    deadline_s = time.monotonic() + DELETE_MAX_S
    try:
        there = _existing(admin, topics)
        if there:
            admin.delete_topics(there)
        while there := _existing(admin, topics):
            if time.monotonic() > deadline_s:
                raise DriverError(f"{', '.join(there)}: deleted, and still there")
            time.sleep(POLL_S)
    except DRIVER_ERRORS as error:
        raise translated(error, settings, f"delete {', '.join(topics)}") from error
    finally:
        admin.close()


def _existing(admin: KafkaAdminClient, topics: Sequence[str]) -> list[str]:
    found = admin.describe_topics(list(topics))
    return [topic["name"] for topic in found if topic["error_code"] != _MISSING]


def _alter(settings: KafkaSettings, topic: str, message_bytes: str) -> None:
    admin = open_client(KafkaAdminClient, settings, "topics")
    change = ConfigResource(ConfigResourceType.TOPIC, topic, {"max.message.bytes": message_bytes})
    try:
        answers = admin.alter_configs([change])
    except DRIVER_ERRORS as error:
        raise translated(error, settings, f"alter {topic}") from error
    finally:
        admin.close()
    answer = answers.get("topic", {}).get(topic)
    if answer != DONE:  # which the client does not raise
        raise DriverError(f"Kafka does not set max.message.bytes of {topic}: {answer}")
