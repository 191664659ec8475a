"""What every catalog does."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from orchx.domain.services import Operation, Service
from orchx.engine.catalog_cache import CHECK_MS, KnownDefinitions
from orchx.errors import Conflict
from orchx.ports.catalog import Catalog, StoredDefinition
from orchx.testing.virtual_clock import VirtualClock


def definition(
    version: str = "1.0.0",
    *,
    name: str = "d",
    digest: str = "x",
    request_type: str | None = None,
) -> StoredDefinition:
    return StoredDefinition(
        namespace="n",
        name=name,
        version=version,
        digest=digest,
        source='{"é":1}'.encode(),
        text="é: 1\n",
        created_at_ms=5,
        request_type=request_type,
    )


async def latest(catalog: Catalog, name: str = "d") -> str | None:
    found = await catalog.find("n", name)
    return None if found is None else found.version


class TestCatalog:
    async def test_finds_what_was_published(self, catalog: Catalog) -> None:
        assert await catalog.find("n", "d") is None
        assert await catalog.publish(definition(request_type="t"))
        assert await catalog.find("n", "d", "1.0.0") == definition(request_type="t")
        assert await catalog.find("n", "d", "1.0.1") is None
        assert await catalog.by_request_type("t") == definition(request_type="t")
        assert await catalog.by_request_type("u") is None

    async def test_a_version_never_changes(self, catalog: Catalog) -> None:
        await catalog.publish(definition())
        revision = await catalog.revision()
        assert not await catalog.publish(definition())
        with pytest.raises(Conflict):
            await catalog.publish(definition(digest="y"))
        assert await catalog.revision() == revision
        assert await catalog.publish(definition("0.9.0"))
        assert (await catalog.versions("n", "d"))[0].digest == "x"

    async def test_latest_is_the_highest_by_semantic_version(self, catalog: Catalog) -> None:
        for version in ("1.10.0", "2.0.0-rc.2", "2.0.0-rc.10", "1.9.0"):
            await catalog.publish(definition(version))
        assert await latest(catalog) == "2.0.0-rc.10"
        await catalog.publish(definition("2.0.0"))
        assert await latest(catalog) == "2.0.0"
        assert [d.version for d in await catalog.versions("n", "d")] == [
            "2.0.0",
            "2.0.0-rc.10",
            "2.0.0-rc.2",
            "1.10.0",
            "1.9.0",
        ]

    async def test_a_retired_version_is_found_only_by_name(self, catalog: Catalog) -> None:
        await catalog.publish(definition("1.0.0"))
        await catalog.publish(definition("2.0.0"))
        assert await catalog.retire("n", "d", "2.0.0")
        assert not await catalog.retire("n", "d", "3.0.0")
        assert await latest(catalog) == "1.0.0"
        found = await catalog.find("n", "d", "2.0.0")
        assert found is not None
        assert found.retired
        assert len(await catalog.versions("n", "d")) == 2

    async def test_a_request_type_has_one_definition(self, catalog: Catalog) -> None:
        await catalog.publish(definition("1.0.0", request_type="t"))
        await catalog.publish(definition("1.1.0", request_type="t"))
        with pytest.raises(Conflict, match="n/d"):
            await catalog.publish(definition(name="other", request_type="t"))
        assert await catalog.find("n", "other") is None
        bound = await catalog.by_request_type("t")
        assert bound is not None
        assert bound.version == "1.1.0"

    async def test_publishing_again_binds_what_was_bound_to_nothing(self, catalog: Catalog) -> None:
        await catalog.publish(definition())
        revision = await catalog.revision()
        assert not await catalog.publish(definition(request_type="t"))
        assert await catalog.by_request_type("t") == definition(request_type="t")
        assert await catalog.revision() > revision
        revision = await catalog.revision()
        assert not await catalog.publish(definition(request_type="t"))
        assert not await catalog.publish(definition())
        assert await catalog.by_request_type("t") == definition(request_type="t")
        assert await catalog.revision() == revision

    async def test_publishing_again_takes_no_request_type_away(self, catalog: Catalog) -> None:
        await catalog.publish(definition(request_type="t"))
        await catalog.publish(definition(name="other"))
        with pytest.raises(Conflict, match="n/d"):
            await catalog.publish(definition(name="other", request_type="t"))
        with pytest.raises(Conflict, match="'t'"):
            await catalog.publish(definition(request_type="u"))
        assert await catalog.by_request_type("u") is None
        assert await catalog.find("n", "other") == definition(name="other")

    async def test_publishing_again_does_not_bind_what_is_retired(self, catalog: Catalog) -> None:
        await catalog.publish(definition())
        await catalog.retire("n", "d", "1.0.0")
        assert not await catalog.publish(definition(request_type="t"))
        assert await catalog.by_request_type("t") is None

    async def test_retiring_frees_the_request_type(self, catalog: Catalog) -> None:
        await catalog.publish(definition(request_type="t"))
        await catalog.retire("n", "d", "1.0.0")
        assert await catalog.by_request_type("t") is None
        assert await catalog.publish(definition(name="other", request_type="t"))

    async def test_lists_the_latest_of_each(self, catalog: Catalog) -> None:
        for name, version in (("b", "1.0.0"), ("a", "1.0.0"), ("a", "1.0.1"), ("gone", "1.0.0")):
            await catalog.publish(definition(version, name=name))
        await catalog.retire("n", "gone", "1.0.0")
        found = [(d.name, d.version) for d in await catalog.list()]
        assert found == [("a", "1.0.1"), ("b", "1.0.0")]

    async def test_keeps_services_by_name(self, catalog: Catalog) -> None:
        assert await catalog.services() == []
        operation = Operation(capability="it.provision-laptop", path="/x/{id}")
        one = Service(name="one", base_url="http://one", operations=[operation], rate_per_s=2.5)
        two = Service(name="two", base_url="http://two")
        await catalog.put_services([two, one])
        assert await catalog.services() == [one, two]
        changed = Service(name="two", base_url="http://2")
        await catalog.put_services([two, changed])
        assert await catalog.services() == [one, changed]

    async def test_the_revision_grows_with_every_change(self, catalog: Catalog) -> None:
        seen = [await catalog.revision()]
        await catalog.publish(definition())
        seen.append(await catalog.revision())
        await catalog.put_services([Service(name="s", base_url="http://s")])
        seen.append(await catalog.revision())
        await catalog.retire("n", "d", "1.0.0")
        seen.append(await catalog.revision())
        assert seen == sorted(set(seen))
        await catalog.retire("n", "d", "1.0.0")  # is retired already
        assert await catalog.revision() == seen[-1]

    async def test_another_opening_sees_the_same_catalog(
        self, catalogs: Callable[[], Catalog]
    ) -> None:
        one, other = catalogs(), catalogs()
        await one.publish(definition())
        assert await latest(other) == "1.0.0"
        assert await other.revision() == await one.revision()

    async def test_a_change_by_one_process_reaches_what_another_keeps(
        self, catalogs: Callable[[], Catalog]
    ) -> None:
        one, clock = catalogs(), VirtualClock()
        known = KnownDefinitions(catalogs(), clock.now_ms)

        async def version() -> str | None:
            found = await known.find("n", "d")
            return None if found is None else found.version

        await one.publish(definition())
        assert await version() == "1.0.0"
        await one.publish(definition("2.0.0"))
        assert await version() == "1.0.0"  # kept
        await clock.advance(CHECK_MS / 1000)
        async with asyncio.timeout(20):  # a slow answer to the one question is not waited for
            while await version() != "2.0.0":  # noqa: ASYNC110  what is awaited has no event
                await asyncio.sleep(0.01)
