"""Definitions as submissions need them: looked up and compiled once per process."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal

from orchx.domain.json_values import JSON
from orchx.engine.catalog_cache import CatalogWatch, DefinitionCache, without_text
from orchx.ports.catalog import Catalog, StoredDefinition
from orchx.serve.validation import InputSchema

DEFAULT_PRIORITY: Final = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Runnable:
    """A published definition without its source, with its input schema if it has one.

    `isolation` and `priority` are what its metadata asks for, for requests that do not say.
    """

    stored: StoredDefinition
    input_schema: InputSchema | None
    isolation: Literal["auto", "shared", "dedicated"] = "auto"
    priority: int = DEFAULT_PRIORITY


class RunnableDefinitions:
    """Serves from memory; a change in the catalog, by anyone, is noticed within a second."""

    def __init__(self, catalog: Catalog, now_ms: Callable[[], int]) -> None:
        self._catalog = catalog
        self._cache = DefinitionCache(CatalogWatch(catalog, now_ms), _runnable)

    async def by_type(self, request_type: str) -> Runnable | None:
        """Return the latest definition bound to a request type."""
        return await self._cache.get(
            (request_type,), lambda: self._catalog.by_request_type(request_type)
        )

    async def find(self, namespace: str, name: str, version: str) -> Runnable | None:
        """Return a version, or the latest."""
        return await self._cache.get(
            (namespace, name, version), lambda: self._catalog.find(namespace, name, version)
        )

    def forget(self) -> None:
        """Drop everything: this process has just changed the catalog."""
        self._cache.forget()


def _runnable(stored: StoredDefinition) -> Runnable:
    source: JSON = json.loads(stored.source)
    schema = schema_document(source)
    header = source.get("document") or {}
    wanted = (header.get("metadata") or {}).get("orchx") or {}
    return Runnable(
        stored=without_text(stored),
        input_schema=None if schema is None else InputSchema(schema),
        isolation=wanted.get("isolation", "auto"),
        priority=wanted.get("priority", DEFAULT_PRIORITY),
    )


def schema_document(source: JSON) -> JSON:
    """Return the inline JSON schema of a workflow's input; None if there is none."""
    data_input = source.get("input") or {}
    schema = data_input.get("schema") or {}
    return schema.get("document")
