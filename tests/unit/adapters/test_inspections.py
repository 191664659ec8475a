"""What is read off servers' answers, for the doctor and at a start."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from orchx.adapters.mongo_inspection import ACTIONS, lacking_rights
from orchx.adapters.redis_connection import RedisConnection
from orchx.adapters.redis_inspection import MIB, check_redis_version, inspect_redis
from orchx.errors import DriverError
from orchx.settings import RedisSettings

READ_WRITE = [*ACTIONS, "dropCollection"]


class Redis(RedisConnection):
    """Says of itself what a test says."""

    def __init__(self, **facts: object) -> None:
        super().__init__(RedisSettings())
        self._facts = {"redis_version": "7.2.4", "maxmemory": 0, **facts}
        self.asked = 0

    async def facts(self) -> Mapping[str, Any]:
        self.asked += 1
        return self._facts


class TestRedis:
    @pytest.mark.parametrize(
        ("facts", "level", "told"),
        [
            ({}, "ok", "no maxmemory"),
            ({"maxmemory": MIB, "maxmemory_policy": "allkeys-lru"}, "ok", "1 MiB, allkeys-lru"),
            ({"maxmemory": MIB, "maxmemory_policy": "noeviction"}, "warn", "1 MiB, noeviction"),
            ({"redis_version": "4.0.14"}, "fail", "Redis 5 or newer is needed"),
        ],
    )
    async def test_is_judged_by_what_it_says(
        self, facts: dict[str, object], level: str, told: str
    ) -> None:
        redis = Redis(**facts)
        found = await inspect_redis(redis)
        assert redis.asked == 1
        assert found.level == level
        assert told in found.detail
        assert bool(found.advice) == (level != "ok")

    async def test_that_is_too_old_is_refused_at_a_start(self) -> None:
        with pytest.raises(DriverError, match=r"ORCHX_REDIS__URL names one of 4\.0"):
            await check_redis_version(Redis(redis_version="4.0.14"))
        assert await check_redis_version(Redis(redis_version="10.0")) == "10.0"


class TestRights:
    @pytest.mark.parametrize(
        ("resource", "actions", "lacking"),
        [
            ({"db": "orchx", "collection": ""}, READ_WRITE, []),
            ({"db": "", "collection": ""}, READ_WRITE, []),
            ({"anyResource": True}, ["anyAction"], []),
            ({"db": "other", "collection": ""}, READ_WRITE, sorted(ACTIONS)),
            ({"db": "orchx", "collection": "states"}, READ_WRITE, sorted(ACTIONS)),
            ({"db": "orchx", "collection": ""}, ["find"], sorted(ACTIONS - {"find"})),
        ],
    )
    def test_that_a_user_lacks(
        self, resource: dict[str, object], actions: list[str], lacking: list[str]
    ) -> None:
        privilege = {"resource": resource, "actions": actions}
        info = {"authenticatedUsers": [{"user": "u"}], "authenticatedUserPrivileges": [privilege]}
        assert lacking_rights({"authInfo": info}, "orchx") == lacking

    def test_nobody_lacks_any_where_nobody_logs_in(self) -> None:
        info: dict[str, list[object]] = {
            "authenticatedUsers": [],
            "authenticatedUserPrivileges": [],
        }
        assert lacking_rights({"authInfo": info}, "orchx") == []
