"""What `orchx doctor` looks at in Kafka. Nothing is made or changed."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Final

from kafka.admin import KafkaAdminClient

from orchx.adapters.kafka_connection import DRIVER_ERRORS, open_client, translated
from orchx.adapters.kafka_probe import needed_replicas, unwritable
from orchx.adapters.kafka_topics import existing_topics, topic_deviations
from orchx.errors import DriverError
from orchx.ports.inspection import Finding
from orchx.settings import KafkaSettings

BROKERS: Final = "kafka"
TOPICS: Final = "kafka topics"
_COPIES: Final = (
    "A broker does not wait for its disk: set ORCHX_KAFKA__REPLICATION_FACTOR=3 and "
    "ORCHX_KAFKA__MIN_INSYNC_REPLICAS=2 for what matters, before the topics are made."
)


def inspect_kafka(settings: KafkaSettings) -> Iterator[Finding]:
    """Yield what was found; blocks for `request_timeout_ms` where nobody answers."""
    try:
        admin = open_client(KafkaAdminClient, settings, "doctor")
    except DriverError as error:
        yield _failure(BROKERS, error)
        return
    try:
        yield _brokers(admin, settings)
        yield _topics(admin, settings)
    except DRIVER_ERRORS as error:
        yield _failure(TOPICS, translated(error, settings, "look at its topics"))
    finally:
        with contextlib.suppress(*DRIVER_ERRORS):
            admin.close()


def _brokers(admin: KafkaAdminClient, settings: KafkaSettings) -> Finding:
    count = len(admin.describe_cluster()["brokers"])
    servers = ",".join(settings.bootstrap_servers)
    detail = f"{count} broker{'s'[: count != 1]} at {servers}, {settings.security_protocol}"
    if count < settings.replication_factor:
        advice = f"ORCHX_KAFKA__REPLICATION_FACTOR is {settings.replication_factor}: lower it, or"
        advice += " start more brokers."
        return Finding(check=BROKERS, level="fail", detail=detail, advice=advice)
    if settings.min_insync_replicas == 1:
        return Finding(check=BROKERS, level="warn", detail=f"{detail}: one copy", advice=_COPIES)
    return Finding(check=BROKERS, level="ok", detail=detail)


def _topics(admin: KafkaAdminClient, settings: KafkaSettings) -> Finding:
    there = existing_topics(admin, settings)
    if not there:
        detail = f"none with the prefix {settings.topic_prefix}: the first start makes them"
        return Finding(check=TOPICS, level="ok", detail=detail)
    faults = list(topic_deviations(admin, settings))
    if not faults:
        names = list(there)
        found = admin.describe_topics(names)
        faults = list(unwritable(found, needed_replicas(admin, names)))
    if faults:
        advice = "See ORCHX_KAFKA__TOPIC_PREFIX, and docs/runbook.md."
        return Finding(check=TOPICS, level="fail", detail="; ".join(faults), advice=advice)
    counts = ", ".join(f"{name} ({count})" for name, count in there.items())
    return Finding(check=TOPICS, level="ok", detail=f"as they should be: {counts}")


def _failure(check: str, error: Exception) -> Finding:
    return Finding(check=check, level="fail", detail=str(error), advice="Mend what it names.")
