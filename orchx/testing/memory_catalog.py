"""The catalog in memory, for tests; shared by all simulated processes."""

from __future__ import annotations

import builtins
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from orchx.domain.semantic_version import precedence
from orchx.domain.services import Service
from orchx.errors import Conflict
from orchx.ports.catalog import StoredDefinition
from orchx.testing.memory_io import OnIo, reach


class MemoryCatalog:
    """A `Catalog` that yields once before a write is durable, and once after."""

    def __init__(self, on_io: OnIo | None = None) -> None:
        """Start empty; `on_io` is called around every write."""
        self._on_io = on_io
        self._definitions: dict[tuple[str, str, str], StoredDefinition] = {}
        self._services: dict[str, Service] = {}
        self._revision = 0

    async def publish(self, definition: StoredDefinition) -> bool:
        """Store a new version; False if this very version was there."""
        await reach(self._on_io, "catalog.publish:before")
        key = (definition.namespace, definition.name, definition.version)
        there = self._definitions.get(key)
        if there is None or there.is_bound_by(definition):
            self._check_binding(definition)
            self._definitions[key] = replace(
                there or definition, request_type=definition.request_type
            )
            self._revision += 1
        await reach(self._on_io, "catalog.publish:after")
        return there is None

    def _check_binding(self, new: StoredDefinition) -> None:
        for bound in self._in_use():
            same = (bound.namespace, bound.name) == (new.namespace, new.name)
            if new.request_type is not None and bound.request_type == new.request_type and not same:
                raise Conflict(
                    f"request type {new.request_type!r} is bound to {bound.namespace}/{bound.name}"
                )

    async def find(
        self, namespace: str, name: str, version: str = "latest"
    ) -> StoredDefinition | None:
        """Return a version; `latest` is the highest that is not retired."""
        if version != "latest":
            return self._definitions.get((namespace, name, version))
        return _highest(d for d in self._in_use() if (d.namespace, d.name) == (namespace, name))

    async def by_request_type(self, request_type: str) -> StoredDefinition | None:
        """Return the latest definition bound to a request type."""
        return _highest(d for d in self._in_use() if d.request_type == request_type)

    async def versions(self, namespace: str, name: str) -> Sequence[StoredDefinition]:
        """Return all versions, highest first."""
        found = [
            definition
            for key, definition in self._definitions.items()
            if key[:2] == (namespace, name)
        ]
        return sorted(found, key=_precedence, reverse=True)

    async def list(self) -> Sequence[StoredDefinition]:
        """Return the latest version of every definition that is in use."""
        latest: dict[tuple[str, str], StoredDefinition] = {}
        for definition in sorted(self._in_use(), key=_precedence):
            latest[definition.namespace, definition.name] = definition
        return [latest[key] for key in sorted(latest)]

    async def retire(self, namespace: str, name: str, version: str) -> bool:
        """Take a version out of use for new workflows; False if there is none."""
        await reach(self._on_io, "catalog.retire:before")
        key = (namespace, name, version)
        there = self._definitions.get(key)
        if there is not None and not there.retired:
            self._definitions[key] = replace(there, retired=True)
            self._revision += 1
        await reach(self._on_io, "catalog.retire:after")
        return there is not None

    async def put_services(self, services: Sequence[Service]) -> None:
        """Create or replace services by name; the last one of a name counts."""
        taken = tuple(services)
        await reach(self._on_io, "catalog.put_services:before")
        if taken:
            self._services.update((service.name, service) for service in taken)
            self._revision += 1
        await reach(self._on_io, "catalog.put_services:after")

    async def services(self) -> Sequence[Service]:
        """Return all services, by name."""
        return [self._services[name] for name in sorted(self._services)]

    async def revision(self) -> int:
        """Return a number that grows with every change."""
        return self._revision

    async def close(self) -> None:
        """Do nothing: another simulated process may still use it."""

    def _in_use(self) -> builtins.list[StoredDefinition]:
        return [definition for definition in self._definitions.values() if not definition.retired]


def _precedence(definition: StoredDefinition) -> Any:
    return precedence(definition.version)


def _highest(definitions: Iterable[StoredDefinition]) -> StoredDefinition | None:
    return max(definitions, key=_precedence, default=None)
