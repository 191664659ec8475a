"""API keys in memory."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from orchx.errors import InvalidRequest, NotFound
from orchx.ports.key_store import MAX_KEYS, ApiKey


class MemoryKeyStore:
    """A `KeyStore` of one process."""

    def __init__(self) -> None:
        self._keys: dict[str, ApiKey] = {}

    async def add(self, key: ApiKey, *, only_first: bool = False) -> bool:
        """Store a new key."""
        if self._keys and only_first:
            return False
        if len(self._keys) >= MAX_KEYS:
            raise InvalidRequest(f"there are {MAX_KEYS} keys already")
        self._keys[key.id] = key
        return True

    async def list(self) -> Sequence[ApiKey]:
        """Return all keys."""
        return tuple(self._keys.values())

    async def revoke(self, key_id: str, *, now_ms: int) -> ApiKey:
        """Revoke a key."""
        found = self._keys.get(key_id)
        if found is None:
            raise NotFound(f"there is no API key {key_id}")
        if found.revoked_at_ms is None:
            found = self._keys[key_id] = msgspec.structs.replace(found, revoked_at_ms=now_ms)
        return found

    async def close(self) -> None:
        """Nothing is held open."""
