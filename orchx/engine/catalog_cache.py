"""What a process keeps of the catalog, and how it hears of changes: by the catalog's revision.

Asking for the revision is one read of one number, so it is asked for at most every `CHECK_MS`
while anything is looked up, whether or not there was an answer.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Final, Generic, TypeVar

import structlog

from orchx.errors import DriverError, StorageFull, TryLater
from orchx.ports.catalog import Catalog, StoredDefinition

V = TypeVar("V")

CHECK_MS: Final = 500
PATIENCE_S: Final = 0.3
"""How long a lookup waits for the revision before it makes do with what is kept."""

STALE_MS: Final = 60_000
"""What nobody has confirmed for so long is not used: the catalog's failure is the caller's then."""

MAX_ENTRIES: Final = 10_000
MAX_BYTES: Final = 64 * 1_048_576
"""Of the sources of definitions that something is kept of."""

_log = structlog.get_logger(__name__)


class CatalogWatch:
    """Knows the catalog's revision, no older than `CHECK_MS` while the catalog answers.

    While it does not, what was known stays in use for `STALE_MS`, and a log line says so.
    """

    def __init__(self, catalog: Catalog, now_ms: Callable[[], int]) -> None:
        self._catalog = catalog
        self._now_ms = now_ms
        self._revision: int | None = None
        self._as_of_ms = self._tried_ms = 0
        self._asking: asyncio.Task[None] | None = None  # the last question, if it is answered too
        self._failing = False
        self._silent = False  # of late there was no answer, or none in time

    async def revision(self) -> int:
        """Return the revision.

        Raises:
            DriverError, StorageFull, TryLater: the catalog has failed for too long.
        """
        age_ms = self._now_ms() - self._as_of_ms
        if self._revision is not None and age_ms < CHECK_MS:
            return self._revision
        asking = self._last_question()
        if self._revision is not None and age_ms < STALE_MS:
            if not self._silent:
                await asyncio.wait((asking,), timeout=PATIENCE_S)
                self._silent |= not asking.done()  # until it answers, nobody waits for it again
            return self._revision
        await asyncio.shield(asking)
        return self._revision if self._revision is not None else 0

    def _last_question(self) -> asyncio.Task[None]:
        """Return the question under way, or one that has just failed; ask where there is none."""
        now_ms = self._now_ms()
        if self._asking is None or (self._asking.done() and now_ms - self._tried_ms >= CHECK_MS):
            self._tried_ms = now_ms
            self._asking = asyncio.create_task(self._ask(now_ms))
            self._asking.add_done_callback(_hear)
        return self._asking

    async def _ask(self, now_ms: int) -> None:
        try:
            revision = await self._catalog.revision()
        except (DriverError, StorageFull, TryLater) as error:
            if not self._failing:
                kept_ms = None if self._revision is None else now_ms - self._as_of_ms
                _log.warning("catalog.out_of_reach", error=str(error), kept_for_ms=kept_ms)
            self._failing = self._silent = True
            raise
        if self._failing:
            _log.info("catalog.back", revision=revision)
        self._revision, self._as_of_ms = revision, now_ms
        self._failing = self._silent = False


def _hear(asked: asyncio.Task[None]) -> None:
    if not asked.cancelled():
        asked.exception()  # heard, though nobody may have waited for it


@dataclass(frozen=True, slots=True, kw_only=True)
class _Kept(Generic[V]):
    value: V
    size_bytes: int


class DefinitionCache(Generic[V]):
    """What is made of definitions, by how they were looked up, until the catalog changes.

    What is not known here is always asked for: a definition just published elsewhere is found.
    Bounded in entries, and in bytes of their sources; the oldest goes first.

    Args:
        watch: tells of changes.
        make: what is kept of a definition; not the definition itself if it can be helped.
    """

    def __init__(self, watch: CatalogWatch, make: Callable[[StoredDefinition], V]) -> None:
        self._watch = watch
        self._make = make
        self._kept: OrderedDict[tuple[str, ...], _Kept[V]] = OrderedDict()
        self._bytes = 0
        self._revision: int | None = None
        self._generation = 0

    async def get(
        self, key: tuple[str, ...], load: Callable[[], Awaitable[StoredDefinition | None]]
    ) -> V | None:
        """Return what was made of a definition; None: there is no such one.

        Raises:
            What `load` raises, and `CatalogWatch.revision`.
        """
        revision = await self._watch.revision()
        if revision != self._revision:
            self._drop()
            self._revision = revision
        kept = self._kept.get(key)
        if kept is not None:
            return kept.value
        generation = self._generation
        stored = await load()
        if stored is None:
            return None
        made = self._make(stored)
        if generation == self._generation:  # else it may be older than what the catalog has now
            self._keep(key, _Kept(value=made, size_bytes=len(stored.source)))
        return made

    def forget(self) -> None:
        """Drop everything: this process has just changed the catalog."""
        self._drop()

    def _drop(self) -> None:
        self._generation += 1
        self._kept.clear()
        self._bytes = 0

    def _keep(self, key: tuple[str, ...], entry: _Kept[V]) -> None:
        before = self._kept.pop(key, None)  # two may have looked it up at once
        self._bytes += entry.size_bytes - (0 if before is None else before.size_bytes)
        self._kept[key] = entry
        while self._kept and (len(self._kept) > MAX_ENTRIES or self._bytes > MAX_BYTES):
            _, oldest = self._kept.popitem(last=False)
            self._bytes -= oldest.size_bytes


def without_text(stored: StoredDefinition) -> StoredDefinition:
    """Return a definition's name, version and digest, without what it says."""
    return replace(stored, source=b"", text="")


class KnownDefinitions:
    """Which version and digest a definition's name stands for, kept in memory: for children."""

    def __init__(self, catalog: Catalog, now_ms: Callable[[], int]) -> None:
        self._catalog = catalog
        self._cache = DefinitionCache(CatalogWatch(catalog, now_ms), without_text)

    async def find(
        self, namespace: str, name: str, version: str = "latest"
    ) -> StoredDefinition | None:
        """Return a version as `Catalog.find` does, without its source."""
        return await self._cache.get(
            (namespace, name, version), lambda: self._catalog.find(namespace, name, version)
        )
