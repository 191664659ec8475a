"""Servers that want to know who comes: what is said to those who are refused."""

from __future__ import annotations

import asyncio
import shutil
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pymongo
import pytest
import redis
from kafka import KafkaAdminClient
from kafka.errors import KafkaError
from pydantic import SecretStr

from orchx.adapters.kafka_connection import open_client
from orchx.adapters.kafka_probe import KafkaProbe
from orchx.adapters.kafka_topics import ensure_topics
from orchx.errors import DriverError
from orchx.settings import KafkaSettings, MongoSettings, RedisSettings, Settings
from orchx.stores import inspect_servers, prepare_stores
from tests import servers
from tests.own_servers import OwnServer, own_kafka, own_mongodb, own_redis

RIGHT = "right-Secr3t"
WRONG = "wr0ng-secret"
PREFIX = servers.own_name()  # one for all tests here: so is the database
SASL = {
    "listeners": (
        "CLIENTS://127.0.0.1:{port},TLS://127.0.0.1:{other_port},"
        "CONTROLLER://127.0.0.1:{controller_port}"
    ),
    "advertised.listeners": "CLIENTS://127.0.0.1:{port},TLS://127.0.0.1:{other_port}",
    "listener.security.protocol.map": "CLIENTS:SASL_PLAINTEXT,TLS:SSL,CONTROLLER:PLAINTEXT",
    "ssl.keystore.type": "PEM",
    "inter.broker.listener.name": "CLIENTS",
    "sasl.mechanism.inter.broker.protocol": "PLAIN",
    "sasl.enabled.mechanisms": "PLAIN",
    "listener.name.clients.plain.sasl.jaas.config": (
        "org.apache.kafka.common.security.plain.PlainLoginModule required "
        f'username="broker" password="{RIGHT}" user_broker="{RIGHT}" user_orchx="{RIGHT}";'
    ),
}

pytestmark = pytest.mark.timeout(600)


def _kafka(port: int, password: str = RIGHT, **changes: object) -> KafkaSettings:
    fields: dict[str, object] = {
        "bootstrap_servers": (f"127.0.0.1:{port}",),
        "topic_prefix": servers.own_name(),
        "security_protocol": "SASL_PLAINTEXT",
        "sasl_mechanism": "PLAIN",
        "sasl_username": "orchx",
        "sasl_password": SecretStr(password),
        "partitions": 1,
    }
    return KafkaSettings.model_validate({**fields, **changes})


def _speaks_sasl(port: int) -> bool:
    try:
        open_client(KafkaAdminClient, _kafka(port, request_timeout_ms=3_000), "test").close()
    except (DriverError, KafkaError):
        return False
    return True


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The broker's own, signed by itself; with its key in the file `broker.pem` beside it."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("there is no openssl to make a certificate with")
    folder = tmp_path_factory.mktemp("certificate")
    words = "req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=broker -keyout key.pem -out ca.pem"
    names = ("-addext", "subjectAltName=IP:127.0.0.1")
    subprocess.run([openssl, *words.split(), *names], cwd=folder, check=True, capture_output=True)
    both = (folder / "key.pem").read_text() + (folder / "ca.pem").read_text()
    (folder / "broker.pem").write_text(both)
    return folder / "ca.pem"


@pytest.fixture(scope="module")
def broker(certificate: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OwnServer]:
    pem = str(certificate.with_name("broker.pem"))
    changes = {**SASL, "ssl.keystore.location": pem}
    with own_kafka(tmp_path_factory.mktemp("sasl"), changes, _speaks_sasl) as server:
        yield server


class TestKafka:
    async def test_the_right_password_lets_in(self, broker: OwnServer) -> None:
        settings = _kafka(broker.port)
        await asyncio.to_thread(ensure_topics, settings)
        probe = KafkaProbe(settings)
        await probe.check()
        await probe.close()

    @pytest.mark.parametrize(
        ("changes", "named"),
        [
            ({"sasl_password": SecretStr(WRONG)}, "ORCHX_KAFKA__SASL_PASSWORD"),
            ({"sasl_username": "nobody"}, "'nobody'"),
            ({"sasl_mechanism": "SCRAM-SHA-512"}, r"ORCHX_KAFKA__SASL_MECHANISM \(SCRAM-SHA-512"),
        ],
    )
    def test_others_are_told_what_to_look_at(
        self, broker: OwnServer, changes: dict[str, object], named: str
    ) -> None:
        with pytest.raises(DriverError, match=named) as told:
            ensure_topics(_kafka(broker.port, request_timeout_ms=5_000, **changes))  # type: ignore[arg-type]
        assert RIGHT not in str(told.value)
        assert WRONG not in str(told.value)

    @pytest.mark.parametrize("protocol", ["PLAINTEXT", "SSL"])
    def test_whoever_speaks_otherwise_is_told_the_protocol(
        self, broker: OwnServer, protocol: str
    ) -> None:
        settings = KafkaSettings.model_validate(
            {
                "bootstrap_servers": (broker.address,),
                "security_protocol": protocol,
                "request_timeout_ms": 3_000,
            }
        )
        with pytest.raises(DriverError, match="ORCHX_KAFKA__SECURITY_PROTOCOL") as told:
            ensure_topics(settings)
        assert protocol in str(told.value)

    def test_over_tls_a_broker_is_trusted_by_its_certificate(
        self, broker: OwnServer, certificate: Path
    ) -> None:
        settings = KafkaSettings(
            bootstrap_servers=(f"127.0.0.1:{broker.other_port}",),
            topic_prefix=servers.own_name(),
            security_protocol="SSL",
            ssl_cafile=certificate,
            partitions=1,
        )
        ensure_topics(settings)
        strange = settings.model_copy(update={"ssl_cafile": None, "request_timeout_ms": 5_000})
        with pytest.raises(DriverError, match=r"ORCHX_KAFKA__SSL_CAFILE.*VERIFY_FAILED"):
            ensure_topics(strange)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OwnServer]:
    def answers(port: int) -> bool:
        try:
            with redis.Redis(port=port, password=RIGHT) as client:
                return bool(client.ping())
        except redis.RedisError:
            return False

    folder = tmp_path_factory.mktemp("redis")
    with own_redis(folder, "--requirepass", RIGHT, is_ready=answers) as server:
        yield server


@pytest.fixture(scope="module")
def mongod(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OwnServer]:
    """A server with three users; only one may do what orchx does."""
    folder = tmp_path_factory.mktemp("mongod")
    key = folder / "key"
    key.write_text("k" * 64)
    key.chmod(stat.S_IRUSR)
    with own_mongodb(folder, "--auth", "--keyFile", str(key)) as server:
        _make_users(server.port)
        yield server


def _make_users(port: int) -> None:
    with pymongo.MongoClient[dict[str, object]](port=port, directConnection=True) as client:
        client.admin.command("createUser", "root", pwd=RIGHT, roles=["root"])
    with pymongo.MongoClient[dict[str, object]](
        port=port, username="root", password=RIGHT, directConnection=True
    ) as client:
        for user, role in (("orchx", "readWrite"), ("reader", "read")):
            roles = [{"role": role, "db": "orchx"}]
            client.admin.command("createUser", user, pwd=RIGHT, roles=roles)


def _settings(
    cache: OwnServer,
    mongod: OwnServer,
    *,
    user: str = "orchx",
    mongo: str = RIGHT,
    red: str = RIGHT,
) -> Settings:
    uri = f"mongodb://{user}:{mongo}@127.0.0.1:{mongod.port}/?replicaSet=orchx"
    return Settings(
        profile="kafka",
        kafka=servers.apache_kafka(topic_prefix=PREFIX),
        redis=RedisSettings(url=SecretStr(f"redis://:{red}@127.0.0.1:{cache.port}/0")),
        mongodb=MongoSettings(uri=SecretStr(uri)),
    )


class TestStores:
    async def test_the_right_ones_let_in(self, cache: OwnServer, mongod: OwnServer) -> None:
        settings = _settings(cache, mongod)
        await prepare_stores(settings)
        found = {one.check: one for one in await inspect_servers(settings)}
        assert {name: one.level for name, one in found.items()} == {
            "kafka": "warn",  # one copy only
            "kafka topics": "ok",
            "mongodb": "ok",
            "redis": "ok",
        }

    @pytest.mark.parametrize(
        ("wrong", "check", "named"),
        [
            ({"mongo": WRONG}, "mongodb", "ORCHX_MONGODB__URI"),
            ({"user": "reader"}, "mongodb", "ORCHX_MONGODB__URI"),
            ({"red": WRONG}, "redis", "ORCHX_REDIS__URL"),
        ],
    )
    async def test_others_are_told_what_to_look_at(
        self,
        cache: OwnServer,
        mongod: OwnServer,
        wrong: dict[str, str],
        check: str,
        named: str,
    ) -> None:
        settings = _settings(cache, mongod, **wrong)
        with pytest.raises(DriverError, match=named) as told:
            await prepare_stores(settings)
        assert WRONG not in str(told.value)
        [finding] = [one for one in await inspect_servers(settings) if one.check == check]
        assert finding.level == "fail"
        assert named in finding.detail + finding.advice
        assert WRONG not in finding.detail + finding.advice
