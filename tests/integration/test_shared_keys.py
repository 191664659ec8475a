"""Keys and secrets that engines share, in MongoDB: as engines start, and as people ask."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from orchx.adapters.mongo_connection import MongoConnection
from orchx.adapters.mongo_key_store import KEYS, MongoKeyStore
from orchx.adapters.webhook_secret import tenant_secret, webhook_secret
from orchx.cli.main import app
from orchx.errors import Bug, DriverError
from orchx.serve.api_keys import ApiKeys, create_first_key
from orchx.settings import Settings
from orchx.stores import KafkaStores
from tests import servers


@pytest.fixture
def settings() -> Settings:
    return Settings(profile="kafka", mongodb=servers.mongodb())


@pytest.fixture
def orchx(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """The command, with these settings in its environment."""
    monkeypatch.setenv("ORCHX_PROFILE", "kafka")
    monkeypatch.setenv("ORCHX_MONGODB__URI", settings.mongodb.uri.get_secret_value())
    monkeypatch.setenv("ORCHX_MONGODB__DATABASE", settings.mongodb.database)
    return lambda *arguments: CliRunner().invoke(app, arguments)


async def in_each(engines: list[KafkaStores], what: Callable[[KafkaStores], Any]) -> list[Any]:
    try:
        return await asyncio.gather(*map(what, engines))
    finally:
        for engine in engines:
            await engine.close()


async def test_engines_that_start_at_once_agree_on_a_secret(settings: Settings) -> None:
    assert await in_each([KafkaStores(settings)], lambda e: e.webhook_secret()) == [None]
    starting = [KafkaStores(settings) for _ in range(8)]
    agreed = await in_each(starting, lambda engine: engine.agree_on_webhook_secret())
    assert len({secret.get_secret_value() for secret in agreed}) == 1
    assert await in_each([KafkaStores(settings)], lambda e: e.webhook_secret()) == agreed[:1]
    assert agreed[0].get_secret_value() not in repr(
        settings.webhooks.model_copy(update={"secret": agreed[0]})
    )


async def test_engines_that_start_at_once_make_one_first_key(settings: Settings) -> None:
    starting = [KafkaStores(settings) for _ in range(8)]
    tokens = await in_each(starting, lambda engine: create_first_key(engine.key_store(), now_ms=1))
    assert sum(token is not None for token in tokens) == 1


def test_no_engine_makes_a_secret_of_its_own(settings: Settings) -> None:
    with pytest.raises(Bug, match="before the stores were prepared"):
        webhook_secret(settings)


def test_people_ask_whoever_the_settings_name(
    settings: Settings, orchx: Callable[..., Result]
) -> None:
    made = orchx("keys", "create", "bob", "--scope", "submit", "--json")
    token = json.loads(made.stdout)["token"]

    async def verified() -> str:
        store = KafkaStores(settings).key_store()
        try:
            return (await ApiKeys(store).verify(token)).name
        finally:
            await store.close()

    assert asyncio.run(verified()) == "bob"
    (listed,) = json.loads(orchx("keys", "list", "--json").stdout)["keys"]
    assert json.loads(orchx("keys", "revoke", listed["id"], "--json").stdout)["revokedAt"]


async def test_a_key_that_cannot_be_read_is_named(settings: Settings) -> None:
    connection = MongoConnection(settings.mongodb)
    store = MongoKeyStore(connection)
    await store.list()
    keys = await connection.collection(KEYS)
    await keys.insert_one({"_id": "k1", "name": 7})
    try:
        with pytest.raises(DriverError, match=r"api_keys 'k1'.*str"):
            await MongoKeyStore(connection).list()
    finally:
        await connection.close()


def test_a_tenants_secret_comes_from_what_engines_agreed_on(
    settings: Settings, orchx: Callable[..., Result]
) -> None:
    early = orchx("deliveries", "secret", "--tenant", "hr")
    assert early.exit_code == 2, "a secret made here would be the engines'"
    assert "no secret in MongoDB" in early.stderr

    async def agree() -> str:
        engine = KafkaStores(settings)
        try:
            return (await engine.agree_on_webhook_secret()).get_secret_value()
        finally:
            await engine.close()

    master = asyncio.run(agree())
    shown = orchx("deliveries", "secret", "--tenant", "hr", "--json")
    assert json.loads(shown.stdout)["secret"] == tenant_secret(master, "hr")
