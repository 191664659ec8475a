"""What Redis is told, without a server."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import pytest
from redis import exceptions
from redis.crc import key_slot

from orchx.adapters.redis_connection import Argument, Script, translated
from orchx.adapters.redis_state_cache import RedisStateCache
from orchx.errors import DriverError, OrchxError, StorageFull, Unavailable
from orchx.settings import RedisSettings
from tests.summaries import summary


class Recorder:
    """Takes the connection's place and notes the keys of each script."""

    def __init__(self) -> None:
        self.keys: list[list[str]] = []

    async def run(self, script: Script, keys: Sequence[str], arguments: Sequence[Argument]) -> Any:
        self.keys.append(list(keys))
        return [1, None] if len(keys) == 1 else 1


class TestKeys:
    async def test_those_of_a_partition_are_in_one_slot(self) -> None:
        cache, recorder = RedisStateCache(RedisSettings(), "orchx"), Recorder()
        cache._connection = recorder  # type: ignore[assignment]
        summaries = [summary(f"w{{{number}}}") for number in range(1_200)]
        slots = set()
        for partition in range(8):
            recorder.keys.clear()
            await cache.put(summaries, after=0, offset=1, partition=partition)
            used = {key_slot(key.encode()) for keys in recorder.keys for key in keys}
            assert len(used) == 1
            assert max(map(len, recorder.keys)) <= 501
            slots |= used
        assert len(slots) == 8


class TestErrors:
    @pytest.mark.parametrize(
        ("error", "kind", "says"),
        [
            (exceptions.ConnectionError("refused"), Unavailable, "ORCHX_REDIS__URL"),
            (exceptions.TimeoutError("slow"), Unavailable, "ORCHX_REDIS__URL"),
            (exceptions.BusyLoadingError("loading"), Unavailable, "ORCHX_REDIS__URL"),
            (exceptions.ReadOnlyError("replica"), Unavailable, "ORCHX_REDIS__URL"),
            (ConnectionResetError("reset"), Unavailable, "ORCHX_REDIS__URL"),
            (exceptions.AuthenticationError("no"), DriverError, "credentials in ORCHX_REDIS__URL"),
            (exceptions.ResponseError("WRONGPASS x"), DriverError, "credentials"),
            (exceptions.NoPermissionError("no"), DriverError, "forbids this to the user"),
            (exceptions.OutOfMemoryError("no"), StorageFull, "room"),
            (exceptions.ResponseError("@x: 1: -OOM … 'maxmemory'."), StorageFull, "room"),
            (exceptions.MovedError("1 127.0.0.1:1"), DriverError, "ORCHX_REDIS__CLUSTER"),
            (exceptions.RedisClusterException("x"), Unavailable, "ORCHX_REDIS__CLUSTER"),
            (exceptions.ResponseError("odd"), DriverError, "odd (ResponseError)"),
        ],
    )
    def test_each_becomes_one_of_ours(
        self, error: Exception, kind: type[OrchxError], says: str
    ) -> None:
        ours = translated(error)
        assert type(ours) is kind
        assert says in str(ours)


def test_a_script_has_the_name_that_redis_gives_it() -> None:
    script = Script("return 1")
    assert script.sha == hashlib.sha1(b"return 1", usedforsecurity=False).hexdigest()
    assert script.sha == "e0e1f9fabfc9d4800c877a703b823ac0578ff8db"
