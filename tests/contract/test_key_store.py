"""What every store of API keys does."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from orchx.adapters import file_key_store, mongo_key_store
from orchx.errors import InvalidRequest, NotFound
from orchx.ports.key_store import ApiKey, KeyStore
from orchx.testing import memory_key_store

MODULES = (file_key_store, memory_key_store, mongo_key_store)


def key(id_: str = "a1", **more: Any) -> ApiKey:
    fields = {"name": "n", "scopes": ("read",), "salt": "s", "hash": "h", "created_at_ms": 1}
    return ApiKey(id=id_, **{**fields, **more})


class TestKeyStore:
    async def test_keeps_keys_as_they_are_oldest_first(self, keys: KeyStore) -> None:
        assert await keys.list() == ()
        first = key(tenant="hr", scopes=("submit", "admin"), name="é $.", created_at_ms=5)
        assert await keys.add(first)
        assert await keys.add(key("b2", created_at_ms=6))
        assert await keys.list() == (first, key("b2", created_at_ms=6))

    async def test_others_see_each_change_at_once(
        self, key_stores: Callable[[], KeyStore], keys: KeyStore
    ) -> None:
        other = key_stores()
        assert await other.list() == ()
        await keys.add(key())
        assert await other.list() == (key(),)
        await keys.revoke("a1", now_ms=7)
        assert await other.list() == (key(revoked_at_ms=7),)

    async def test_a_key_is_revoked_once(self, keys: KeyStore) -> None:
        await keys.add(key())
        assert await keys.revoke("a1", now_ms=7) == key(revoked_at_ms=7)
        assert await keys.revoke("a1", now_ms=9) == key(revoked_at_ms=7)
        assert await keys.list() == (key(revoked_at_ms=7),)

    async def test_what_is_not_there_cannot_be_revoked(self, keys: KeyStore) -> None:
        with pytest.raises(NotFound, match="no API key zz"):
            await keys.revoke("zz", now_ms=7)

    async def test_the_first_key_is_the_first(self, keys: KeyStore) -> None:
        assert await keys.add(key(), only_first=True)
        assert not await keys.add(key("b2"), only_first=True)
        await keys.revoke("a1", now_ms=2)
        assert not await keys.add(key("b2"), only_first=True)
        assert [each.id for each in await keys.list()] == ["a1"]

    async def test_of_those_that_start_at_once_one_makes_the_first_key(
        self, key_stores: Callable[[], KeyStore]
    ) -> None:
        adding = (key_stores().add(key(f"k{n}"), only_first=True) for n in range(8))
        assert sum(await asyncio.gather(*adding)) == 1
        assert len(await key_stores().list()) == 1

    async def test_there_is_a_limit(self, keys: KeyStore, monkeypatch: pytest.MonkeyPatch) -> None:
        for module in MODULES:
            monkeypatch.setattr(module, "MAX_KEYS", 2)
        await keys.add(key("a1"))
        await keys.add(key("b2"))
        with pytest.raises(InvalidRequest, match="2 keys already"):
            await keys.add(key("c3"))
        assert len(await keys.list()) == 2
