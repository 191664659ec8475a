"""Definitions and services: what can be run, and what can do it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from orchx.domain.services import Service
from orchx.errors import Conflict


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredDefinition:
    """A definition as it was published. `source` is canonical JSON; immutable per version.

    `text` is what the author wrote (YAML or JSON); `request_type`, where set, binds
    requests of that type to this definition.
    """

    namespace: str
    name: str
    version: str
    digest: str
    source: bytes
    text: str
    created_at_ms: int
    request_type: str | None = None
    retired: bool = False

    def is_bound_by(self, again: StoredDefinition) -> bool:
        """Tell whether publishing this version again binds it to a request type.

        Raises:
            Conflict: `again` has another content, or another request type.
        """
        name = f"version {self.namespace}/{self.name}/{self.version}"
        if again.digest != self.digest:
            raise Conflict(f"{name} exists with another content")
        if self.retired or again.request_type in (None, self.request_type):
            return False
        if self.request_type is not None:
            raise Conflict(f"{name} is bound to requests of type {self.request_type!r}")
        return True


class Catalog(Protocol):
    """Publishes, finds and retires definitions; holds the services.

    Changes have a number, `revision`, by which caches notice them.
    """

    async def publish(self, definition: StoredDefinition) -> bool:
        """Store a new version; False if this very version (same digest) was there.

        One that was there without a request type, and is in use, is bound to the one given.

        Raises:
            Conflict: the version exists with another content or request type, or the
                request type is bound to another definition.
        """
        ...

    async def find(
        self, namespace: str, name: str, version: str = "latest"
    ) -> StoredDefinition | None:
        """Return a version; `latest` is the highest by semantic version, not retired."""
        ...

    async def by_request_type(self, request_type: str) -> StoredDefinition | None:
        """Return the latest definition bound to a request type."""
        ...

    async def versions(self, namespace: str, name: str) -> Sequence[StoredDefinition]:
        """Return all versions, highest first."""
        ...

    async def list(self) -> Sequence[StoredDefinition]:
        """Return the latest version of every definition, by namespace and name."""
        ...

    async def retire(self, namespace: str, name: str, version: str) -> bool:
        """Take a version out of use for new workflows; False if there is none."""
        ...

    async def put_services(self, services: Sequence[Service]) -> None:
        """Create or replace services by name."""
        ...

    async def services(self) -> Sequence[Service]:
        """Return all services, by name."""
        ...

    async def revision(self) -> int:
        """Return a number that grows with every change."""
        ...

    async def close(self) -> None:
        """Let go of the files."""
        ...
