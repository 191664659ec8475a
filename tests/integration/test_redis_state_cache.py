"""What the contract does not see of the cache in Redis: expiry, losses, late and failed calls."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any

import pytest
from pydantic import SecretStr
from redis.asyncio import Redis

from orchx.adapters.redis_connection import Argument, RedisConnection, Script
from orchx.adapters.redis_state_cache import RedisStateCache
from orchx.errors import DriverError, OrchxError, Unavailable
from orchx.ports.state_cache import CacheView
from orchx.ports.state_store import WorkflowSummary
from orchx.settings import RedisSettings
from tests import servers, summaries

P = 3


def summary(workflow_id: str, task: str = "/do/0", **changes: object) -> WorkflowSummary:
    return summaries.summary(workflow_id, 100, task=task, **changes)


class LateConnection(RedisConnection):
    """Holds calls back, as a server does that was stopped; its caller hears of a failure."""

    def __init__(self, settings: RedisSettings) -> None:
        super().__init__(settings)
        self.holding = False
        self.passing = 0  # calls that are not held back before the others
        self.held: list[Callable[[], Awaitable[Any]]] = []

    async def run(self, script: Script, keys: Sequence[str], arguments: Sequence[Argument]) -> Any:
        if self.holding and self.passing:
            self.passing -= 1
        elif self.holding:
            run = super().run
            self.held.append(lambda: run(script, keys, arguments))
            raise Unavailable("no answer")
        return await super().run(script, keys, arguments)

    async def let_go(self) -> None:
        """Have the server do everything that was held back."""
        self.holding = False
        for call in self.held:
            await call()


class Rig:
    """A cache on a connection that can be late, and a look behind it."""

    def __init__(self) -> None:
        self.settings = servers.redis(ended_ttl_s=60, live_ttl_s=6_000)
        self.prefix = servers.own_name()
        self.cache = self.opened()
        self.connection = LateConnection(self.settings)
        self.cache._connection = self.connection
        self.raw: Redis = Redis.from_url(self.settings.url.get_secret_value())

    def opened(self) -> RedisStateCache:
        return RedisStateCache(self.settings, self.prefix)

    def key(self, rest: str) -> str:
        return f"{{{self.prefix}:{P}}}:{rest}"

    async def put(self, *summaries: WorkflowSummary, after: int, offset: int) -> None:
        await self.cache.put(summaries, after=after, offset=offset, partition=P)

    async def view(self, *workflow_ids: str) -> CacheView:
        seen = await self.cache.get(workflow_ids, partition=P)
        assert seen is not None
        return seen


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    made = Rig()
    yield made
    made.connection.holding = False
    await made.cache.clear()
    await made.cache.close()
    await made.raw.aclose()


class TestExpiry:
    async def test_each_lives_as_long_as_the_settings_say(self, rig: Rig) -> None:
        ended = summary("ended", status="completed", ended_at_ms=9)
        await rig.put(ended, summary("live"), after=0, offset=7)
        seen = await rig.view("leased", "other")
        await rig.cache.fill([summary("other", status="faulted")], partition=P, lease=seen.lease)
        for rest, low, high in (
            ("wf:ended", 50, 60),
            ("wf:other", 50, 60),
            ("wf:live", 5_990, 6_000),
            ("upto", 5_990, 6_000),
            ("wf:leased", 1, 10),
        ):
            assert low <= await rig.raw.ttl(rig.key(rest)) <= high, rest

    async def test_an_evicted_entry_is_missing(self, rig: Rig) -> None:
        await rig.put(summary("a"), summary("b"), after=0, offset=7)
        await rig.raw.delete(rig.key("wf:a"))
        assert set((await rig.view("a", "b")).found) == {"b"}

    async def test_an_evicted_lease_fills_nothing_in(self, rig: Rig) -> None:
        await rig.put(after=0, offset=7)
        seen = await rig.view("a")
        await rig.raw.delete(rig.key("wf:a"))
        await rig.cache.fill([summary("a", "old")], partition=P, lease=seen.lease)
        assert not (await rig.view("a")).found

    async def test_where_the_marker_was_evicted_all_before_is_unknown(self, rig: Rig) -> None:
        """The server may have lost entries with it, as one that came back with old data."""
        await rig.put(summary("a"), after=0, offset=7)
        await rig.raw.delete(rig.key("upto"))
        assert await rig.cache.get(["a"], partition=P) is None
        await rig.put(summary("b"), after=7, offset=8)
        assert set((await rig.view("a", "b")).found) == {"b"}

    async def test_a_server_that_went_back_in_time_serves_nothing_stale(self, rig: Rig) -> None:
        await rig.put(summary("a"), after=0, offset=7)
        kept = {key: await rig.raw.get(rig.key(key)) for key in ("upto", "wf:a")}
        await rig.put(summary("a", "/do/1"), after=7, offset=8)
        for key, value in kept.items():
            assert value is not None
            await rig.raw.set(rig.key(key), value)
        assert (await rig.view("a")).offset == 7
        await rig.put(summary("b"), after=8, offset=9)
        seen = await rig.view("a", "b")
        assert seen.offset == 9
        assert set(seen.found) == {"b"}

    async def test_what_another_release_wrote_is_missing(self, rig: Rig) -> None:
        await rig.put(summary("a"), summary("b"), after=0, offset=7)
        generation = (await rig.view()).lease.partition("?")[0]
        await rig.raw.set(rig.key("wf:a"), f'{generation}={{"status":"unheard-of"}}')
        assert set((await rig.view("a", "b")).found) == {"b"}
        await rig.raw.set(rig.key("upto"), "something else")
        assert await rig.cache.get(["a"], partition=P) is None

    async def test_a_server_without_the_scripts_is_given_them(self, rig: Rig) -> None:
        await rig.raw.script_flush()
        await rig.put(summary("a"), after=0, offset=7)
        await rig.raw.script_flush()
        assert set((await rig.view("a")).found) == {"a"}


class TestLateCalls:
    async def test_a_put_that_failed_and_is_done_late_does_no_harm(self, rig: Rig) -> None:
        await rig.put(summary("a"), summary("b"), after=0, offset=7)
        rig.connection.holding = True
        with pytest.raises(Unavailable):
            await rig.put(summary("a", "late"), after=7, offset=8)
        rig.connection.holding = False
        await rig.put(summary("a", "/do/2"), after=8, offset=9)
        await rig.connection.let_go()
        seen = await rig.view("a", "b")
        assert seen.offset == 9
        assert {key: one.task for key, one in seen.found.items()} == {"a": "/do/2"}

    async def test_a_put_that_is_done_late_looks_as_old_as_it_is(self, rig: Rig) -> None:
        await rig.put(summary("a"), after=0, offset=7)
        rig.connection.holding = True
        before = time.monotonic()
        with pytest.raises(Unavailable):
            await rig.put(summary("a", "/do/1"), after=7, offset=8)
        rig.connection.holding = False
        while time.monotonic() < before + 0.2:
            await rig.view()
        await rig.connection.let_go()
        seen = await rig.view("a")
        assert (seen.offset, seen.found["a"].task) == (8, "/do/1")
        assert seen.age_ms >= 190
        # And whatever is put next begins anew: what was lost meanwhile is not known.
        await rig.put(summary("b"), after=8, offset=9)
        assert set((await rig.view("a", "b")).found) == {"b"}

    async def test_a_put_after_a_pause_looks_as_new_as_it_is(self, rig: Rig) -> None:
        before = time.monotonic()
        await rig.put(summary("a"), after=0, offset=7)
        after = time.monotonic()
        took_s = after - before  # its end may have been heard of so late
        while time.monotonic() < after + took_s + 0.1:
            await rig.view()
        before = time.monotonic()
        await rig.put(after=7, offset=7)
        age_ms = (await rig.view()).age_ms
        assert age_ms <= (time.monotonic() - before + took_s) * 1000 + 2

    async def test_what_failed_is_forgotten_even_if_the_same_is_tried_again(self, rig: Rig) -> None:
        await rig.put(summary("a"), after=0, offset=7)
        rig.connection.holding = True
        with pytest.raises(Unavailable):
            await rig.put(summary("a", "/do/1"), after=7, offset=8)
        rig.connection.holding = False
        await rig.put(summary("b"), after=7, offset=9)
        assert set((await rig.view("a", "b")).found) == {"b"}

    async def test_a_put_of_which_a_part_is_done_moves_no_offset(self, rig: Rig) -> None:
        await rig.put(summary("a"), after=0, offset=7)
        rig.connection.holding, rig.connection.passing = True, 1
        many = [summary(f"w{number}") for number in range(700)]
        with pytest.raises(Unavailable):
            await rig.put(*many, after=7, offset=8)
        rig.connection.holding = False
        seen = await rig.view("a", "w0", "w699")
        assert seen.offset == 7
        assert set(seen.found) == {"a", "w0"}

    async def test_after_a_put_that_was_given_up_a_new_generation_begins(self, rig: Rig) -> None:
        await rig.put(summary("a"), after=0, offset=7)
        putting = asyncio.create_task(rig.put(summary("b"), after=7, offset=8))
        await asyncio.sleep(0)
        putting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await putting
        await rig.put(summary("c"), after=8, offset=9)
        assert set((await rig.view("a", "c")).found) == {"c"}


def connected(url: str, **changes: object) -> RedisStateCache:
    fields = {"url": SecretStr(url), "timeout_ms": 300, **changes}
    return RedisStateCache(RedisSettings.model_validate(fields), "t")


async def failure(cache: RedisStateCache) -> OrchxError:
    before = time.monotonic()
    with pytest.raises(OrchxError) as raised:
        await cache.get(["a"], partition=0)
    await cache.close()
    assert time.monotonic() - before < 5
    return raised.value


class TestFailures:
    async def test_a_server_that_is_not_there(self, unused_tcp_port: int) -> None:
        error = await failure(connected(f"redis://127.0.0.1:{unused_tcp_port}/0"))
        assert isinstance(error, Unavailable)
        assert "ORCHX_REDIS__URL" in str(error)

    async def test_a_cluster_that_is_not_there(self, unused_tcp_port: int) -> None:
        error = await failure(connected(f"redis://127.0.0.1:{unused_tcp_port}/0", cluster=True))
        assert isinstance(error, Unavailable)
        assert "ORCHX_REDIS__URL" in str(error)

    async def test_a_server_that_says_nothing(self) -> None:
        quiet = asyncio.Event()

        async def say_nothing(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await quiet.wait()
            writer.close()

        server = await asyncio.start_server(say_nothing, "127.0.0.1", 0)
        host, port = server.sockets[0].getsockname()
        error = await failure(connected(f"redis://{host}:{port}/0"))
        assert isinstance(error, Unavailable)
        assert "ORCHX_REDIS__URL" in str(error)
        quiet.set()
        server.close()
        await server.wait_closed()

    async def test_wrong_credentials(self) -> None:
        url = servers.redis().url.get_secret_value().replace("redis://", "redis://who:what@")
        error = await failure(connected(url))
        assert type(error) is DriverError
        assert "credentials in ORCHX_REDIS__URL" in str(error)
        assert "what" not in str(error)

    async def test_a_server_that_is_no_cluster(self) -> None:
        error = await failure(connected(servers.redis().url.get_secret_value(), cluster=True))
        assert "ORCHX_REDIS__CLUSTER" in str(error)

    async def test_what_is_no_url(self) -> None:
        error = await failure(connected("nonsense"))
        assert type(error) is DriverError
        assert "ORCHX_REDIS__URL" in str(error)

    async def test_use_after_closing(self, rig: Rig) -> None:
        cache = rig.opened()
        await cache.get(["a"], partition=P)
        await cache.close()
        assert "closed" in str(await failure(cache))
