"""API keys as they are kept: never the keys themselves, but salted hashes of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal, Protocol, TypeAlias, get_args

import msgspec

Scope: TypeAlias = Literal["submit", "read", "operate", "admin"]
SCOPES: Final[tuple[str, ...]] = get_args(Scope)
MAX_KEYS: Final = 10_000


class ApiKey(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, rename="camel"):
    """One key as stored. `tenant` None: not bound to a tenant. Times are epoch milliseconds."""

    id: str
    name: str
    scopes: tuple[Scope, ...]
    salt: str
    hash: str
    created_at_ms: int
    tenant: str | None = None
    revoked_at_ms: int | None = None

    def allows(self, scope: Scope) -> bool:
        """Tell whether the key has a scope; `admin` implies all."""
        return scope in self.scopes or "admin" in self.scopes


class KeyStore(Protocol):
    """Keeps at most `MAX_KEYS` keys, for all processes that may be asked with one.

    What it has answered, every later call sees, in whatever process.
    """

    async def add(self, key: ApiKey, *, only_first: bool = False) -> bool:
        """Store a new key; with `only_first` not if there are any, revoked ones too: False then.

        Of several that add the first key at once, one succeeds.

        Raises:
            InvalidRequest: there are `MAX_KEYS` keys already.
        """
        ...

    async def list(self) -> Sequence[ApiKey]:
        """Return all keys, revoked ones too, oldest first. Cheap to call every second.

        Raises:
            Unavailable: they cannot be read now.
            InvalidRequest, DriverError: they cannot be read, until somebody does something.
        """
        ...

    async def revoke(self, key_id: str, *, now_ms: int) -> ApiKey:
        """Revoke a key and return it; one that is revoked already stays as it is.

        Raises:
            NotFound: there is no such key.
        """
        ...

    async def close(self) -> None:
        """Let go of files and connections."""
        ...
