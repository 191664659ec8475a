"""What a process keeps of the catalog: how soon it hears of changes, and what a failure does."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import replace

import pytest
import structlog

from orchx.engine import catalog_cache as module
from orchx.engine.catalog_cache import (
    CHECK_MS,
    STALE_MS,
    CatalogWatch,
    DefinitionCache,
    KnownDefinitions,
)
from orchx.errors import DriverError, OrchxError, Unavailable
from orchx.ports.catalog import StoredDefinition
from orchx.testing.memory_catalog import MemoryCatalog
from orchx.testing.virtual_clock import VirtualClock

FIRST = StoredDefinition(
    namespace="n",
    name="d",
    version="1.0.0",
    digest="first",
    source=b"{}",
    text="{}",
    created_at_ms=1,
)
SECOND = replace(FIRST, version="2.0.0", digest="second")


class Shared(MemoryCatalog):
    """A catalog that counts what it is asked, fails, hangs, or stops before it answers."""

    def __init__(self) -> None:
        super().__init__()
        self.polls = 0
        self.finds = 0
        self.failure: OrchxError | None = None
        self.answers = asyncio.Event()
        self.answers.set()
        self.found = asyncio.Event()
        self.found.set()

    async def revision(self) -> int:
        self.polls += 1
        await self.answers.wait()
        if self.failure is not None:
            raise self.failure
        return await super().revision()

    async def find(
        self, namespace: str, name: str, version: str = "latest"
    ) -> StoredDefinition | None:
        self.finds += 1
        found = await super().find(namespace, name, version)
        await self.found.wait()
        return found


class Rig:
    """One process of several."""

    def __init__(self) -> None:
        self.clock = VirtualClock()
        self.catalog = Shared()
        self.known = KnownDefinitions(self.catalog, self.clock.now_ms)

    async def latest(self) -> str | None:
        found = await self.known.find("n", "d")
        return None if found is None else found.digest

    async def later(self, delay_ms: int) -> None:
        await self.clock.advance(delay_ms / 1000)


@pytest.fixture
async def rig() -> Rig:
    made = Rig()
    await made.catalog.publish(FIRST)
    return made


class TestChanges:
    async def test_lookups_between_two_polls_ask_the_catalog_nothing(self, rig: Rig) -> None:
        for _ in range(3):
            assert [await rig.latest() for _ in range(50)] == ["first"] * 50
            await rig.later(CHECK_MS)
        assert (rig.catalog.finds, rig.catalog.polls) == (1, 3)

    async def test_nothing_is_polled_while_nothing_is_looked_up(self, rig: Rig) -> None:
        await rig.latest()
        await rig.later(3_600_000)
        assert rig.catalog.polls == 1

    async def test_a_change_elsewhere_is_noticed_at_the_next_poll(self, rig: Rig) -> None:
        await rig.latest()
        await rig.catalog.publish(SECOND)
        await rig.later(CHECK_MS - 1)
        assert await rig.latest() == "first"
        await rig.later(1)
        assert await rig.latest() == "second"
        assert CHECK_MS + module.PATIENCE_S * 1000 < 1_000  # what the documentation promises
        await rig.catalog.retire("n", "d", "2.0.0")
        await rig.later(CHECK_MS)
        assert await rig.latest() == "first"

    async def test_what_is_not_known_is_asked_for_each_time(self, rig: Rig) -> None:
        assert await rig.known.find("n", "other") is None
        await rig.catalog.publish(replace(FIRST, name="other"))
        assert await rig.known.find("n", "other") is not None

    async def test_one_poll_is_for_all_who_wait_for_it(self, rig: Rig) -> None:
        assert await asyncio.gather(*(rig.latest() for _ in range(20))) == ["first"] * 20
        assert rig.catalog.polls == 1

    async def test_what_was_read_before_a_change_is_not_kept_after_it(self, rig: Rig) -> None:
        await rig.later(1)
        rig.catalog.found.clear()
        slow = asyncio.create_task(rig.latest())
        await rig.later(0)
        await rig.catalog.publish(SECOND)
        await rig.later(CHECK_MS)
        other = asyncio.create_task(rig.known.find("n", "else"))  # notices the change
        await rig.later(0)
        rig.catalog.found.set()
        assert (await slow, await other) == ("first", None)
        assert await rig.latest() == "second"

    async def test_its_own_change_is_noticed_at_once(self, rig: Rig) -> None:
        watch = CatalogWatch(rig.catalog, rig.clock.now_ms)
        cache = DefinitionCache(watch, lambda stored: stored.digest)
        find = rig.catalog.find

        async def latest() -> str | None:
            return await cache.get(("n", "d"), lambda: find("n", "d"))

        assert await latest() == "first"
        await rig.catalog.publish(SECOND)
        assert await latest() == "first"
        cache.forget()
        assert await latest() == "second"


class TestFailure:
    async def test_what_is_kept_is_used_for_a_while_and_a_line_says_so(self, rig: Rig) -> None:
        await rig.latest()
        rig.catalog.failure = Unavailable("MongoDB is out of reach")
        with structlog.testing.capture_logs() as logs:
            for _ in range(5):
                await rig.later(STALE_MS // 5 - 1)
                assert await rig.latest() == "first"
            await rig.later(5)
            with pytest.raises(Unavailable, match="out of reach"):
                await rig.latest()
            rig.catalog.failure = None
            await rig.catalog.publish(SECOND)
            await rig.later(CHECK_MS)
            assert await rig.latest() == "second"
        assert [line["event"] for line in logs] == ["catalog.out_of_reach", "catalog.back"]
        assert logs[0]["kept_for_ms"] == STALE_MS // 5 - 1

    async def test_before_anything_is_known_the_failure_is_the_callers(self, rig: Rig) -> None:
        rig.catalog.failure = DriverError("broken")
        for _ in range(2):
            with pytest.raises(DriverError, match="broken"):
                await rig.latest()
        rig.catalog.failure = None
        await rig.later(CHECK_MS)
        assert await rig.latest() == "first"

    @pytest.mark.parametrize("is_known", [True, False])
    async def test_a_catalog_that_fails_is_not_asked_more_often(
        self, rig: Rig, *, is_known: bool
    ) -> None:
        if is_known:
            await rig.latest()
            await rig.later(CHECK_MS)
        rig.catalog.failure = Unavailable("MongoDB is out of reach")
        before = rig.catalog.polls
        for _ in range(3):
            for _ in range(10):
                with contextlib.nullcontext() if is_known else pytest.raises(Unavailable):
                    await rig.latest()
            await rig.later(CHECK_MS)
        assert rig.catalog.polls - before == 3

    async def test_a_catalog_that_hangs_is_not_waited_for_long(
        self, rig: Rig, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(module, "PATIENCE_S", 0.01)
        await rig.latest()
        await rig.catalog.publish(SECOND)
        rig.catalog.answers.clear()
        await rig.later(CHECK_MS)
        assert await rig.latest() == "first"
        monkeypatch.setattr(module, "PATIENCE_S", 3_600)
        for _ in range(3):  # it has had its time; nobody waits for it again
            assert await asyncio.wait_for(rig.latest(), 5) == "first"
        assert rig.catalog.polls == 2  # the one that hangs is the only one
        rig.catalog.answers.set()
        await rig.later(0)
        assert await rig.latest() == "second"


class TestBounds:
    async def test_the_oldest_goes_first(self, rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(module, "MAX_ENTRIES", 3)
        for number in range(4):
            await rig.catalog.publish(replace(FIRST, name=f"d{number}"))
        for number in range(4):
            await rig.known.find("n", f"d{number}")
        await rig.known.find("n", "d3")
        assert rig.catalog.finds == 4
        await rig.known.find("n", "d0")
        assert rig.catalog.finds == 5

    async def test_sources_count_in_bytes(self, rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(module, "MAX_BYTES", 250)
        for number in range(3):
            await rig.catalog.publish(replace(FIRST, name=f"d{number}", source=b" " * 100))
        for name in ("d0", "d1", "d2", "d1", "d2"):
            found = await rig.known.find("n", name)
            assert found is not None
            assert (found.source, found.text) == (b"", "")  # only what it stands for is kept
        assert rig.catalog.finds == 3
        await rig.known.find("n", "d0")
        assert rig.catalog.finds == 4
        await rig.catalog.publish(replace(FIRST, name="huge", source=b" " * 300))
        for _ in range(2):
            assert await rig.known.find("n", "huge") is not None
