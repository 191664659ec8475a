"""Who leads, and whether all copies are up to date: asked of Kafka and MongoDB themselves."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pymongo
from kafka import KafkaAdminClient
from kafka.errors import KafkaError
from pymongo.errors import PyMongoError

from orchx.settings import KafkaSettings, MongoSettings

ASK_TIMEOUT_MS = 5_000
FIND_TIMEOUT_MS = 15_000
_FOLLOWS_OR_LEADS = ("PRIMARY", "SECONDARY")


def leading_broker(settings: KafkaSettings) -> int:
    """Return the id of the broker that leads most partitions of the engine's topics."""
    leaders = Counter(int(each["leader_id"]) for each in _partitions(settings))
    return leaders.most_common(1)[0][0]


def primary_address(settings: MongoSettings) -> str:
    """Return the address of the MongoDB that is written to.

    Raises:
        PyMongoError: there is none.
    """
    with _mongodb(settings) as client:
        client.admin.command("ping")
        assert client.primary is not None
        return client.primary[0]


def is_complete(kafka: KafkaSettings, mongodb: MongoSettings) -> bool:
    """Tell whether every copy of every partition and of the database follows."""
    try:
        partitions = _partitions(kafka)
        with _mongodb(mongodb) as client:
            members = client.admin.command("replSetGetStatus")["members"]
    except (KafkaError, PyMongoError):
        return False
    return all(len(each["isr_nodes"]) == len(each["replica_nodes"]) for each in partitions) and all(
        member["stateStr"] in _FOLLOWS_OR_LEADS for member in members
    )


def _partitions(settings: KafkaSettings) -> list[Mapping[str, Any]]:
    client = KafkaAdminClient(
        bootstrap_servers=list(settings.bootstrap_servers),
        bootstrap_timeout_ms=FIND_TIMEOUT_MS,
        request_timeout_ms=ASK_TIMEOUT_MS,
    )
    try:
        topics = client.describe_topics()
    finally:
        client.close()
    return [
        partition
        for topic in topics
        if topic["name"].startswith(settings.topic_prefix)
        for partition in topic["partitions"]
    ]


@contextmanager
def _mongodb(settings: MongoSettings) -> Iterator[pymongo.MongoClient[Mapping[str, Any]]]:
    uri = settings.uri.get_secret_value()
    with pymongo.MongoClient[Mapping[str, Any]](
        uri, serverSelectionTimeoutMS=FIND_TIMEOUT_MS, socketTimeoutMS=ASK_TIMEOUT_MS
    ) as client:
        yield client
