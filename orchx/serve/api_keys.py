"""API keys: who may do what, kept as salted hashes.

A key is `orx_<id>_<secret>`. The secret is 256 random bits, so one SHA-256 is enough: slow
hashes (bcrypt, argon2) exist to protect what people can remember, and guessing 2**256 is
hopeless at any speed. It also costs a microsecond, so no cache of plain keys is needed.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Final

import structlog

from orchx.domain.names import TENANT_IN_WORDS, is_tenant
from orchx.errors import InvalidRequest, OrchxError, Unauthenticated, Unavailable
from orchx.ports.key_store import SCOPES, ApiKey, KeyStore, Scope

PREFIX: Final = "orx"
MAX_KEY_CHARS: Final = 200
RELOAD_INTERVAL_S: Final = 1.0  # how long a revoked key may still work
ANSWER_S: Final = 1.0  # how long requests wait for a store that is slow
STALE_S: Final = 60.0  # how long what was known is good enough while the store is out of reach
_ID_BYTES: Final = 6
_SECRET_BYTES: Final = 32
_SALT_BYTES: Final = 16
_NOBODY: Final = hashlib.sha256(b"").hexdigest()

logger = structlog.get_logger(__name__)


class ApiKeys:
    """The keys of one installation, as a server sees them: verified, and reloaded on change.

    Args:
        store: where they are.
        monotonic: seconds that only grow, to bound how often the store is looked at.
    """

    def __init__(self, store: KeyStore, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._store = store
        self._monotonic = monotonic
        self._by_id: Mapping[str, ApiKey] = {}
        self._known_s = self._look_again_s = float("-inf")
        self._trouble: OrchxError | None = None  # why the last look saw nothing
        self._looking: asyncio.Task[None] | None = None

    async def verify(self, token: str) -> ApiKey:
        """Return the key that a token belongs to.

        Raises:
            Unauthenticated: the token is malformed, unknown, wrong or revoked.
            Unavailable: the keys cannot be read.
        """
        if self._monotonic() >= self._look_again_s:
            await self._look()
        if not self._is_known():
            raise Unavailable("the API keys cannot be read") from self._trouble
        prefix, _, rest = token[:MAX_KEY_CHARS].partition("_")
        key_id, _, secret = rest.partition("_")
        key = self._by_id.get(key_id)
        # An unknown id is compared too, so that time does not tell which ids exist.
        salt, expected = (key.salt, key.hash) if key is not None else ("", _NOBODY)
        matches = hmac.compare_digest(_hash(salt, secret), expected)
        if key is None or not matches or prefix != PREFIX or key.revoked_at_ms is not None:
            raise Unauthenticated("the API key is unknown, wrong or revoked")
        return key

    async def _look(self) -> None:
        """See what has changed; all requests of a moment share one look."""
        if self._looking is None:
            self._looking = asyncio.get_running_loop().create_task(self._reload())
        if self._trouble is None or not self._is_known():
            await asyncio.wait([self._looking], timeout=ANSWER_S)

    def _is_known(self) -> bool:
        return self._monotonic() - self._known_s < STALE_S

    async def _reload(self) -> None:
        asked_s = self._monotonic()
        try:
            self._by_id = {key.id: key for key in await self._store.list()}
            self._known_s, self._trouble = asked_s, None
        except OrchxError as error:
            if self._trouble is None:
                logger.error("the API keys cannot be read", error=str(error))
            self._trouble = error
            if not isinstance(error, Unavailable):  # it does not mend itself
                self._known_s = float("-inf")
        finally:
            self._look_again_s = asked_s + RELOAD_INTERVAL_S
            self._looking = None


async def create_api_key(
    store: KeyStore,
    *,
    name: str,
    scopes: Sequence[Scope],
    now_ms: int,
    tenant: str | None = None,
) -> tuple[ApiKey, str]:
    """Create a key; the returned token is shown once and can never be found out again.

    Raises:
        InvalidRequest: no scope, an unknown one, no tenant that can be, or too many keys.
    """
    key, token = _make(name=name, scopes=scopes, now_ms=now_ms, tenant=tenant)
    await store.add(key)
    return key, token


async def create_first_key(store: KeyStore, *, now_ms: int) -> str | None:
    """Create a key that may do everything if there is none at all; returns its token."""
    if await store.list():
        return None
    key, token = _make(name="first", scopes=("admin",), now_ms=now_ms, tenant=None)
    return token if await store.add(key, only_first=True) else None


def _make(
    *, name: str, scopes: Sequence[Scope], now_ms: int, tenant: str | None
) -> tuple[ApiKey, str]:
    unknown = [scope for scope in scopes if scope not in SCOPES]
    if unknown or not scopes:
        raise InvalidRequest(f"scopes must be some of {', '.join(SCOPES)}")
    if tenant is not None and not is_tenant(tenant):
        raise InvalidRequest(f"{tenant!r} cannot be a tenant: it is {TENANT_IN_WORDS}")
    key_id = secrets.token_hex(_ID_BYTES)
    secret = secrets.token_urlsafe(_SECRET_BYTES)
    salt = secrets.token_hex(_SALT_BYTES)
    key = ApiKey(
        id=key_id,
        name=name,
        scopes=tuple(dict.fromkeys(scopes)),
        salt=salt,
        hash=_hash(salt, secret),
        created_at_ms=now_ms,
        tenant=tenant,
    )
    return key, f"{PREFIX}_{key_id}_{secret}"


def _hash(salt: str, secret: str) -> str:
    return hashlib.sha256(f"{salt}{secret}".encode("utf-8", "replace")).hexdigest()
