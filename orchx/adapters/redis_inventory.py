"""What the cache in Redis would serve, entry by entry, for comparing it with the states.

Entries of a generation that is over, leases, and what cannot be read are never served.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Final

from orchx.adapters.redis_connection import RedisConnection
from orchx.adapters.redis_state_cache import MARKER, entry_of, marker_of, pattern_of, summary_in
from orchx.engine.verified_stores import CachedEntry
from orchx.settings import RedisSettings

BATCH_KEYS: Final = 500

_KEY: Final = re.compile(rb"\{.*:(\d+)\}:wf:(.+)", re.DOTALL)


class RedisEntries:
    """The entries of one installation's cache."""

    def __init__(self, settings: RedisSettings, prefix: str) -> None:
        """Connect nowhere yet; `prefix` is that of the `RedisStateCache`."""
        self._connection = RedisConnection(settings)
        self._prefix = prefix

    async def batches(self) -> AsyncIterator[Sequence[CachedEntry]]:
        """Yield all entries that would be served, some of one partition at a time."""
        waiting: defaultdict[int, list[str]] = defaultdict(list)
        async for key in self._connection.keys(pattern_of(self._prefix)):
            found = _KEY.fullmatch(key)
            if found is None:
                continue
            keys = waiting[int(found[1])]
            keys.append(found[2].decode())
            if len(keys) >= BATCH_KEYS:
                yield await self._served(int(found[1]), waiting.pop(int(found[1])))
        for partition, keys in waiting.items():
            yield await self._served(partition, keys)

    async def look_up(self, entries: Sequence[CachedEntry]) -> Sequence[CachedEntry]:
        """Return the same entries as they are now; those that are gone are left out."""
        by_partition: defaultdict[int, list[str]] = defaultdict(list)
        for entry in entries:
            by_partition[entry.partition].append(entry.key)
        there: list[CachedEntry] = []
        for partition, keys in by_partition.items():
            there += await self._served(partition, keys)
        return there

    async def offsets(self, partitions: int) -> Mapping[int, int]:
        """Return how far each partition's marker says that the cache is; 0 without one."""
        return {p: (await self._marker(p))[1] for p in range(partitions)}

    async def close(self) -> None:
        """Close the client."""
        await self._connection.close()

    async def _served(self, partition: int, keys: Sequence[str]) -> list[CachedEntry]:
        # The marker first: what is read after it is at least as far as it says.
        generation, offset = await self._marker(partition)
        if not generation:
            return []
        values = await self._connection.values(
            [entry_of(self._prefix, partition, key) for key in keys]
        )
        served = []
        for key, value in zip(keys, values, strict=True):
            if value is None or not value.startswith(generation):
                continue
            summary = summary_in(value, len(generation))
            if summary is not None:
                served.append(
                    CachedEntry(key=key, summary=summary, partition=partition, marker_offset=offset)
                )
        return served

    async def _marker(self, partition: int) -> tuple[bytes, int]:
        (text,) = await self._connection.values([marker_of(self._prefix, partition)])
        marker = MARKER.fullmatch(text or b"")
        return (b"", 0) if marker is None else (marker[1], int(marker[2]))
