"""Definitions as submissions need them: looked up and compiled once per process."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final, Literal

from orchx.domain.json_values import JSON
from orchx.ports.catalog import Catalog, StoredDefinition
from orchx.serve.validation import InputSchema

MAX_ENTRIES: Final = 10_000
CHECK_INTERVAL_MS: Final = 500
DEFAULT_PRIORITY: Final = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Runnable:
    """A published definition, with its input schema if it has one.

    `isolation` and `priority` are what its metadata asks for, for requests that do not say.
    """

    stored: StoredDefinition
    input_schema: InputSchema | None
    isolation: Literal["auto", "shared", "dedicated"] = "auto"
    priority: int = DEFAULT_PRIORITY


class DefinitionCache:
    """Serves from memory; the catalog's revision is looked at every 500 ms at most.

    So a new latest version, or a retirement, reaches a process within that time. What is
    not known here is always asked for: a definition just published elsewhere is found.
    """

    def __init__(self, catalog: Catalog, now_ms: Callable[[], int]) -> None:
        self._catalog = catalog
        self._now_ms = now_ms
        self._entries: dict[tuple[str, ...], Runnable] = {}
        self._revision: int | None = None
        self._checked_at_ms: float = float("-inf")
        self._checking = asyncio.Lock()

    async def by_type(self, request_type: str) -> Runnable | None:
        """Return the latest definition bound to a request type."""
        return await self._get((request_type,), lambda: self._catalog.by_request_type(request_type))

    async def find(self, namespace: str, name: str, version: str) -> Runnable | None:
        """Return a version, or the latest."""
        return await self._get(
            (namespace, name, version), lambda: self._catalog.find(namespace, name, version)
        )

    def forget(self) -> None:
        """Drop everything: this process has just changed the catalog."""
        self._entries.clear()
        self._checked_at_ms = float("-inf")

    async def _get(
        self, key: tuple[str, ...], load: Callable[[], Awaitable[StoredDefinition | None]]
    ) -> Runnable | None:
        await self._notice_changes()
        known = self._entries.get(key)
        if known is not None:
            return known
        revision = self._revision
        stored = await load()
        if stored is None:
            return None
        loaded = _runnable(stored)
        if revision == self._revision:  # else it may be older than what the catalog has now
            if len(self._entries) >= MAX_ENTRIES:
                self._entries.clear()
            self._entries[key] = loaded
        return loaded

    async def _notice_changes(self) -> None:
        if self._now_ms() - self._checked_at_ms < CHECK_INTERVAL_MS:
            return
        async with self._checking:
            now_ms = self._now_ms()
            if now_ms - self._checked_at_ms < CHECK_INTERVAL_MS:
                return  # another request looked while this one waited
            revision = await self._catalog.revision()
            if revision != self._revision:
                self._entries.clear()
                self._revision = revision
            self._checked_at_ms = now_ms


def _runnable(stored: StoredDefinition) -> Runnable:
    source: JSON = json.loads(stored.source)
    schema = schema_document(source)
    header = source.get("document") or {}
    wanted = (header.get("metadata") or {}).get("orchx") or {}
    return Runnable(
        stored=stored,
        input_schema=None if schema is None else InputSchema(schema),
        isolation=wanted.get("isolation", "auto"),
        priority=wanted.get("priority", DEFAULT_PRIORITY),
    )


def schema_document(source: JSON) -> JSON:
    """Return the inline JSON schema of a workflow's input; None if there is none."""
    data_input = source.get("input") or {}
    schema = data_input.get("schema") or {}
    return schema.get("document")
