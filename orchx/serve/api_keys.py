"""API keys: who may do what, kept as salted hashes in one file that only its owner reads.

A key is `orx_<id>_<secret>`. The secret is 256 random bits, so one SHA-256 is enough: slow
hashes (bcrypt, argon2) exist to protect what people can remember, and guessing 2**256 is
hopeless at any speed. It also costs a microsecond, so no cache of plain keys is needed.
"""

from __future__ import annotations

import fcntl
import hashlib
import hmac
import os
import secrets
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final, Literal, TypeAlias, get_args

import msgspec

from orchx.domain.names import TENANT_IN_WORDS, is_tenant
from orchx.errors import InvalidRequest, NotFound, Unauthenticated, Unavailable

Scope: TypeAlias = Literal["submit", "read", "operate", "admin"]
SCOPES: Final[tuple[str, ...]] = get_args(Scope)

PREFIX: Final = "orx"
FILE_NAME: Final = "api-keys.json"
MAX_KEYS: Final = 10_000
MAX_KEY_CHARS: Final = 200
RELOAD_INTERVAL_S: Final = 1.0  # how long a revoked key may still work
_ID_BYTES: Final = 6
_SECRET_BYTES: Final = 32
_SALT_BYTES: Final = 16
_NOBODY: Final = hashlib.sha256(b"").hexdigest()


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


class _File(msgspec.Struct, frozen=True, kw_only=True):
    keys: tuple[ApiKey, ...] = ()
    version: Literal[1] = 1


class ApiKeys:
    """The keys of one data directory, as a server sees them: verified, and reloaded on change.

    Args:
        path: the key file; it may not exist yet.
        monotonic: seconds that only grow, to bound how often the file is looked at.
    """

    def __init__(self, path: Path, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._path = path
        self._monotonic = monotonic
        self._by_id: Mapping[str, ApiKey] = {}
        self._seen: tuple[int, int, int] | None = None
        self._look_again_at = float("-inf")

    def verify(self, token: str) -> ApiKey:
        """Return the key that a token belongs to.

        Raises:
            Unauthenticated: the token is malformed, unknown, wrong or revoked.
            Unavailable: the key file cannot be read.
        """
        self._reload()
        prefix, _, rest = token[:MAX_KEY_CHARS].partition("_")
        key_id, _, secret = rest.partition("_")
        key = self._by_id.get(key_id)
        # An unknown id is compared too, so that time does not tell which ids exist.
        salt, expected = (key.salt, key.hash) if key is not None else ("", _NOBODY)
        matches = hmac.compare_digest(_hash(salt, secret), expected)
        if key is None or not matches or prefix != PREFIX or key.revoked_at_ms is not None:
            raise Unauthenticated("the API key is unknown, wrong or revoked")
        return key

    def _reload(self) -> None:
        now = self._monotonic()
        if now < self._look_again_at:
            return
        try:
            found = self._path.stat()
            seen = (found.st_mtime_ns, found.st_size, found.st_ino)
            if seen != self._seen:
                self._by_id = {key.id: key for key in list_api_keys(self._path)}
                self._seen = seen
        except FileNotFoundError:
            self._by_id, self._seen = {}, None
        except (OSError, msgspec.MsgspecError, InvalidRequest) as error:
            raise Unavailable("the API keys cannot be read") from error
        self._look_again_at = now + RELOAD_INTERVAL_S


def create_api_key(
    path: Path, *, name: str, scopes: Sequence[Scope], now_ms: int, tenant: str | None = None
) -> tuple[ApiKey, str]:
    """Create a key; the returned token is shown once and can never be found out again.

    Raises:
        InvalidRequest: no scope, an unknown one, no tenant that can be, or too many keys.
    """
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
    with _locked(path):
        keys = list_api_keys(path)
        if len(keys) >= MAX_KEYS:
            raise InvalidRequest(f"there are {MAX_KEYS} keys already")
        _write(path, (*keys, key))
    return key, f"{PREFIX}_{key_id}_{secret}"


def list_api_keys(path: Path) -> tuple[ApiKey, ...]:
    """Return all keys, revoked ones too, oldest first.

    Raises:
        InvalidRequest: others than its owner may read or write the file.
    """
    try:
        with path.open("rb") as file:
            if os.fstat(file.fileno()).st_mode & 0o077:
                raise InvalidRequest(f"{path} must be readable by its owner only (chmod 600)")
            return msgspec.json.decode(file.read(), type=_File).keys
    except FileNotFoundError:
        return ()


def revoke_api_key(path: Path, key_id: str, *, now_ms: int) -> ApiKey:
    """Revoke a key; servers notice within `RELOAD_INTERVAL_S`.

    Raises:
        NotFound: there is no such key.
    """
    with _locked(path):
        keys = list_api_keys(path)
        found = next((key for key in keys if key.id == key_id), None)
        if found is None:
            raise NotFound(f"there is no API key {key_id}")
        if found.revoked_at_ms is not None:
            return found
        revoked = msgspec.structs.replace(found, revoked_at_ms=now_ms)
        _write(path, tuple(revoked if key.id == key_id else key for key in keys))
    return revoked


def _hash(salt: str, secret: str) -> str:
    return hashlib.sha256(f"{salt}{secret}".encode("utf-8", "replace")).hexdigest()


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Keep other writers out; readers see the old file or the new one, never half of one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(f"{path}.lock", os.O_CREAT | os.O_RDWR, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _write(path: Path, keys: tuple[ApiKey, ...]) -> None:
    temporary = path.with_name(f"{path.name}.new")
    temporary.unlink(missing_ok=True)
    descriptor = os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(msgspec.json.format(msgspec.json.encode(_File(keys=keys)), indent=2))
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
