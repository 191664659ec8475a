"""Options, partitions and errors, without a broker."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest
from kafka import KafkaAdminClient, errors
from kafka.partitioner import murmur2
from pydantic import SecretStr

from orchx.adapters import kafka_connection
from orchx.adapters.kafka_connection import (
    Topics,
    client_options,
    open_client,
    partition_of,
    translated,
)
from orchx.errors import DriverError
from orchx.settings import KafkaSettings


class TestPartitionOf:
    def test_is_that_of_kafkas_default_partitioner(self) -> None:
        # from the table in Apache Kafka's UtilsTest.testMurmur2
        assert [murmur2(key) for key in (b"21", b"foobar")] == [
            -973932308 & 0xFFFFFFFF,
            -790332482 & 0xFFFFFFFF,
        ]
        assert partition_of("foobar", 1000) == (-790332482 & 0x7FFFFFFF) % 1000

    def test_uses_all_partitions(self) -> None:
        used = {partition_of(f"workflow-{number}", 6) for number in range(200)}
        assert used == set(range(6))
        assert partition_of("anything", 1) == 0


class TestOptions:
    def test_without_credentials_name_none(self) -> None:
        options = client_options(KafkaSettings(), "log")
        assert options["bootstrap_servers"] == ["127.0.0.1:9092"]
        assert options["client_id"].startswith("orchx-log-")
        assert not any(name.startswith(("sasl", "ssl")) for name in options)

    def test_with_credentials(self) -> None:
        settings = KafkaSettings(
            security_protocol="SASL_SSL",
            sasl_mechanism="SCRAM-SHA-256",
            sasl_username="u",
            sasl_password=SecretStr("p"),
        )
        options = client_options(settings, "log")
        assert options["sasl_mechanism"] == "SCRAM-SHA-256"
        assert (options["sasl_plain_username"], options["sasl_plain_password"]) == ("u", "p")
        assert options["ssl_context"].verify_mode == ssl.CERT_REQUIRED
        assert options["ssl_context"].check_hostname

    def test_topics_carry_the_prefix(self) -> None:
        topics = Topics("x")
        assert topics.events == "x.events"
        assert len({topics.events, topics.commands, topics.plans, topics.dead_letters}) == 4


class TestErrors:
    @pytest.mark.parametrize(
        ("error", "named"),
        [
            (errors.KafkaTimeoutError("late"), "ORCHX_KAFKA__BOOTSTRAP_SERVERS"),
            (errors.KafkaConnectionError("refused"), "ORCHX_KAFKA__BOOTSTRAP_SERVERS"),
            (ConnectionRefusedError(), "ORCHX_KAFKA__BOOTSTRAP_SERVERS"),
            (errors.SaslAuthenticationFailedError("no"), "ORCHX_KAFKA__SASL_PASSWORD"),
            (errors.UnsupportedSaslMechanismError("no"), "ORCHX_KAFKA__SASL_MECHANISM"),
            (errors.TopicAuthorizationFailedError("t"), "ACL"),
            (errors.UnknownTopicOrPartitionError("t"), "ORCHX_KAFKA__TOPIC_PREFIX"),
            (errors.NotEnoughReplicasError(), "ORCHX_KAFKA__MIN_INSYNC_REPLICAS"),
            (errors.InvalidReplicationFactorError(), "ORCHX_KAFKA__REPLICATION_FACTOR"),
            (errors.MessageSizeTooLargeError("big"), "max.message.bytes"),
            (errors.IncompatibleBrokerVersion("old"), "version"),
            (errors.KafkaStorageError(), "disk"),
            (errors.UnknownError("odd"), "odd"),
        ],
        ids=lambda value: type(value).__name__,
    )
    def test_name_what_to_look_at(self, error: Exception, named: str) -> None:
        found = translated(error, KafkaSettings(), "append to orchx.events")
        assert isinstance(found, DriverError)
        assert named in str(found)
        assert "append to orchx.events" in str(found)

    def test_never_tell_the_password(self) -> None:
        settings = KafkaSettings(
            security_protocol="SASL_PLAINTEXT",
            sasl_username="u",
            sasl_password=SecretStr("hidden-one"),
        )
        error = errors.SaslAuthenticationFailedError("no")
        assert "hidden-one" not in str(translated(error, settings, "connect"))

    def test_one_that_says_nothing_is_told_in_time(self, mute: str) -> None:
        settings = KafkaSettings(bootstrap_servers=(mute,), request_timeout_ms=1_000)
        with pytest.raises(DriverError, match="ORCHX_KAFKA__BOOTSTRAP_SERVERS"):
            open_client(KafkaAdminClient, settings, "test")

    def test_brokers_that_are_too_old_are_told(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(kafka_connection._Attempt, "version", lambda self: (2, 4))
        with pytest.raises(DriverError, match=r"Kafka 2\.5 or newer.*\(.*version is 2\.4"):
            open_client(lambda **_: object(), KafkaSettings(), "test")

    def test_a_wrong_certificate_file_is_told(self, tmp_path: Path, mute: str) -> None:
        settings = KafkaSettings(security_protocol="SSL", ssl_cafile=tmp_path / "none.pem")
        settings = settings.model_copy(
            update={"bootstrap_servers": (mute,), "request_timeout_ms": 1_000}
        )
        with pytest.raises(DriverError, match=r"ORCHX_KAFKA__SSL_CAFILE .*No such file"):
            open_client(KafkaAdminClient, settings, "test")
        settings.ssl_cafile.write_text("no certificate")  # type: ignore[union-attr]
        with pytest.raises(DriverError, match=r"ORCHX_KAFKA__SSL_CAFILE .*NO_CERTIFICATE"):
            open_client(KafkaAdminClient, settings, "test")
