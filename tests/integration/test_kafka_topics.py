"""Topics on a real broker: made, checked, and what is said when they cannot be."""

from __future__ import annotations

import time

import pytest
from kafka import KafkaAdminClient
from pydantic import SecretStr

from orchx.adapters.kafka_connection import Topics, open_client
from orchx.adapters.kafka_inspection import inspect_kafka
from orchx.adapters.kafka_topics import ensure_topics, existing_topics
from orchx.errors import DriverError
from tests import servers


class TestTopics:
    def test_are_made_and_found_as_they_should_be(self) -> None:
        settings = servers.apache_kafka(partitions=2)
        ensure_topics(settings)
        ensure_topics(settings)
        ensure_topics(settings.model_copy(update={"partitions": 5}))  # of new topics only

    def test_that_differ_are_all_named(self) -> None:
        settings = servers.apache_kafka(partitions=2)
        topics = Topics(settings.topic_prefix)
        admin = open_client(KafkaAdminClient, settings, "test")
        admin.create_topics(
            {
                topics.events: {
                    "num_partitions": 2,
                    "replication_factor": 1,
                    "configs": {
                        "retention.ms": "1000",
                        "max.message.bytes": "1000",
                        "compression.type": "gzip",
                    },
                },
                topics.commands: {"num_partitions": 3, "replication_factor": 1},
                topics.plans: {"num_partitions": 1, "replication_factor": 1},
            },
            wait_for_metadata=True,
        )
        admin.close()
        with pytest.raises(DriverError) as found:
            ensure_topics(settings)
        text = str(found.value)
        assert f"{topics.events}: retention.ms is 1000, expected -1" in text
        assert f"{topics.events}: max.message.bytes is 1000, expected >= 9437184" in text
        assert f"{topics.events}: compression.type is gzip, expected producer" in text
        assert f"{topics.commands}: partitions is 3, expected 2" in text
        assert f"{topics.plans}: cleanup.policy is delete, expected compact" in text
        assert topics.dead_letters not in text

    def test_replicas_that_nobody_can_hold_are_told(self) -> None:
        with pytest.raises(DriverError, match="ORCHX_KAFKA__REPLICATION_FACTOR"):
            ensure_topics(servers.apache_kafka(replication_factor=3))

    def test_too_few_replicas_are_told(self) -> None:
        settings = servers.apache_kafka()
        ensure_topics(settings)
        with pytest.raises(DriverError, match="replicas is 1, expected >= 2"):
            ensure_topics(settings.model_copy(update={"min_insync_replicas": 2}))

    def test_refused_credentials_are_told(self) -> None:
        settings = servers.apache_kafka(
            request_timeout_ms=1_000,
            security_protocol="SASL_PLAINTEXT",
            sasl_username="somebody",
            sasl_password=SecretStr("hidden-one"),
        )
        with pytest.raises(DriverError, match="ORCHX_KAFKA__SASL_PASSWORD") as found:
            ensure_topics(settings)
        assert "somebody" in str(found.value)
        assert "hidden-one" not in str(found.value)


class TestDoctor:
    def test_changes_nothing_and_finds_what_is_there(self) -> None:
        settings = servers.apache_kafka()
        for told in ("the first start makes them", "the first start makes them"):
            [_, topics] = inspect_kafka(settings)
            assert (topics.level, told in topics.detail) == ("ok", True)
        ensure_topics(settings)
        [brokers, topics] = inspect_kafka(settings)
        assert (brokers.level, "1 broker at" in brokers.detail) == ("warn", True)
        assert (topics.level, f"{settings.topic_prefix}.events (1)" in topics.detail) == (
            "ok",
            True,
        )

    def test_finds_what_is_missing_or_wrong(self) -> None:
        settings = servers.apache_kafka()
        ensure_topics(settings)
        wrong = settings.model_copy(update={"replication_factor": 3, "min_insync_replicas": 2})
        [brokers, topics] = inspect_kafka(wrong)
        assert (brokers.level, topics.level) == ("fail", "fail")
        assert "ORCHX_KAFKA__REPLICATION_FACTOR is 3" in brokers.advice
        assert "replicas is 1, expected >= 2" in topics.detail
        admin = open_client(KafkaAdminClient, settings, "test")
        plans = Topics(settings.topic_prefix).plans
        admin.delete_topics([plans])
        deadline_s = time.monotonic() + 30
        while plans in existing_topics(admin, settings):
            assert time.monotonic() < deadline_s, "the broker does not delete it"
        admin.close()
        [_, topics] = inspect_kafka(settings)
        assert topics.level == "fail"
        assert f"{settings.topic_prefix}.plans is missing" in topics.detail
