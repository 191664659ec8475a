"""The real servers that tests run against: `make test` starts them and names them here.

Each test uses names of its own (a topic prefix, a database), so that all of them can share
one set of servers. Without servers, what needs them skips and says how to have them.
"""

from __future__ import annotations

import os
import secrets

import pytest
from pydantic import SecretStr

from orchx.settings import KafkaSettings, MongoSettings, RedisSettings, Settings
from tools.services.store_environment import environment as environment

HOW = "start the servers with `make services`, or run `make test`"


def _address(variable: str) -> str:
    address = os.environ.get(variable)
    if not address:
        pytest.skip(f"{variable} is not set: {HOW}")
    return address


def own_name() -> str:
    """Return a name that no other test uses."""
    return f"t-{secrets.token_hex(6)}"


def kafka(**changes: object) -> KafkaSettings:
    """Return settings of the Kafka server with a topic prefix of this test's own."""
    address = _address("ORCHX_TEST_KAFKA")
    fields = {"bootstrap_servers": (address,), "topic_prefix": own_name(), "partitions": 1}
    return KafkaSettings.model_validate({**fields, **changes})


def apache_kafka(**changes: object) -> KafkaSettings:
    """Return the same, for a test of what only Apache's own Kafka does as it should."""
    if os.environ.get("ORCHX_TEST_KAFKA_IS", "").startswith("Tansu"):
        pytest.skip("the broker is Tansu, which lacks what this is about: needs Java and Maven")
    return kafka(**changes)


def mongodb(**changes: object) -> MongoSettings:
    """Return settings of the MongoDB server with a database of this test's own."""
    uri = SecretStr(_address("ORCHX_TEST_MONGODB"))
    return MongoSettings.model_validate({"uri": uri, "database": own_name(), **changes})


def stores(kafka: KafkaSettings) -> Settings:
    """Return settings of the profile `kafka`, with this Kafka and the rest of this test's own."""
    return Settings(profile="kafka", kafka=kafka, mongodb=mongodb(), redis=redis())


def redis(**changes: object) -> RedisSettings:
    """Return settings of the Redis server; keys are to be prefixed with `own_name()`."""
    url = SecretStr(_address("ORCHX_TEST_REDIS"))
    return RedisSettings.model_validate({"url": url, **changes})
