"""Preparing the stores of the profile `kafka`, on real servers, and what is refused."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

import pytest
from kafka import KafkaAdminClient
from pydantic import SecretStr

from orchx.adapters.kafka_connection import Topics, open_client
from orchx.adapters.mongo_installation import SLACK, check_reach
from orchx.domain.events import Record, TaskSkipped
from orchx.errors import DriverError
from orchx.settings import MongoSettings, RedisSettings, Settings
from orchx.stores import KafkaStores, engine_name, prepare_stores
from tests import servers

PASSWORD = "Secr3t/xyz"  # not percent-encoded, as it should be


@pytest.fixture
def settings() -> Settings:
    return servers.stores(servers.apache_kafka(partitions=2))


def changed(settings: Settings, section: str, **changes: object) -> Settings:
    part = getattr(settings, section).model_copy(update=changes)
    return settings.model_copy(update={section: part})


async def test_the_partitions_that_there_are_go_before_those_asked_for(settings: Settings) -> None:
    await prepare_stores(settings)
    again = await prepare_stores(changed(settings, "kafka", partitions=7))
    assert again.kafka.partitions == 2


async def test_the_embedded_stores_need_nothing() -> None:
    settings = Settings()
    assert await prepare_stores(settings) is settings


async def test_a_database_belongs_to_one_log(settings: Settings) -> None:
    await prepare_stores(settings)
    elsewhere = changed(settings, "kafka", topic_prefix=servers.own_name())
    with pytest.raises(DriverError, match=r"ORCHX_MONGODB__DATABASE.*topic_prefix was"):
        await prepare_stores(elsewhere)


async def test_a_log_that_was_made_anew_is_refused(settings: Settings) -> None:
    await prepare_stores(settings)
    stores = KafkaStores(settings)
    log, archive = stores.event_log(), stores.archive()
    event = TaskSkipped(parent=0, reference="/do/0")
    await log.append([Record(workflow_id="w", epoch=1, owner="o", seq=1, at_ms=1, event=event)])
    partition = 0 if await log.last_offset(0) else 1
    records = await log.tail(0, limit=10, partition=partition)
    await archive.add(records, offset=records[-1].offset, partition=partition)
    await log.close()
    await stores.close()
    await prepare_stores(settings)

    def delete_events() -> None:
        admin = open_client(KafkaAdminClient, settings.kafka, "test")
        admin.delete_topics([Topics(settings.kafka.topic_prefix).events])
        admin.close()

    await asyncio.to_thread(delete_events)
    with pytest.raises(DriverError, match="more than the log holds"):
        await prepare_stores(settings)


def test_a_log_may_be_told_to_end_a_little_too_early() -> None:
    check_reach({0: 5, 1: SLACK}, {0: 5, 1: 1})
    check_reach({}, {0: 0})
    for archived, end in ((1, 0), (SLACK + 2, 1)):
        with pytest.raises(DriverError, match="ORCHX_KAFKA__BOOTSTRAP_SERVERS"):
            check_reach({0: archived}, {0: end})


@pytest.mark.parametrize("section", ["redis", "mongodb"])
async def test_an_address_that_is_none_is_told_without_its_password(
    settings: Settings, section: str
) -> None:
    wrong: dict[str, RedisSettings | MongoSettings] = {
        "redis": RedisSettings(url=SecretStr(f"redis://orchx:{PASSWORD}@nowhere:6379/0")),
        "mongodb": MongoSettings(uri=SecretStr(f"mongodb://orchx:{PASSWORD}@nowhere:27017/")),
    }
    with pytest.raises(DriverError, match="percent-encoded") as told:
        await prepare_stores(settings.model_copy(update={section: wrong[section]}))
    assert "Secr3t" not in str(told.value)
    assert "xyz" not in str(told.value)
    assert f"ORCHX_{section.upper()}__UR" in str(told.value)
    assert told.value.__suppress_context__


def test_an_engine_is_named_after_its_host_and_its_data(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path)
    here, head = engine_name(settings), engine_name(settings, host="fd00::1")
    assert here.startswith(socket.gethostname()[:20])
    assert head.startswith("fd00--1-")
    assert head != engine_name(Settings(data_dir=tmp_path / "other"), host="fd00::1")
    assert engine_name(Settings(engine="blue"), host="fd00::1") == "blue"
