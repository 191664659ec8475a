"""API keys in one file that only its owner reads."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import msgspec

from orchx.errors import DriverError, InvalidRequest, NotFound
from orchx.ports.key_store import MAX_KEYS, ApiKey


class _File(msgspec.Struct, frozen=True, kw_only=True):
    keys: tuple[ApiKey, ...] = ()
    version: Literal[1] = 1


class FileKeyStore:
    """A `KeyStore` for the processes of one machine.

    Args:
        path: the file; it may not exist yet.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen: tuple[int, int, int, int] | None = None
        self._known: tuple[ApiKey, ...] = ()

    async def add(self, key: ApiKey, *, only_first: bool = False) -> bool:
        """Store a new key."""
        with self._locked():
            keys = self._read()
            if keys and only_first:
                return False
            if len(keys) >= MAX_KEYS:
                raise InvalidRequest(f"there are {MAX_KEYS} keys already")
            self._write((*keys, key))
        return True

    async def list(self) -> Sequence[ApiKey]:
        """Return all keys; the file is read again when it has changed."""
        return self._read()

    async def revoke(self, key_id: str, *, now_ms: int) -> ApiKey:
        """Revoke a key."""
        with self._locked():
            keys = self._read()
            found = next((key for key in keys if key.id == key_id), None)
            if found is None:
                raise NotFound(f"there is no API key {key_id}")
            if found.revoked_at_ms is not None:
                return found
            revoked = msgspec.structs.replace(found, revoked_at_ms=now_ms)
            self._write(tuple(revoked if key.id == key_id else key for key in keys))
        return revoked

    async def close(self) -> None:
        """Nothing is held open."""

    def _read(self) -> tuple[ApiKey, ...]:
        try:
            with self._path.open("rb") as file:
                found = os.fstat(file.fileno())
                if found.st_mode & 0o077:
                    raise InvalidRequest(
                        f"{self._path} must be readable by its owner only (chmod 600)"
                    )
                seen = (found.st_mtime_ns, found.st_size, found.st_ino, found.st_mode)
                if seen != self._seen:
                    self._known = msgspec.json.decode(file.read(), type=_File).keys
                    self._seen = seen
        except FileNotFoundError:
            self._known, self._seen = (), None
        except (OSError, msgspec.MsgspecError) as error:
            raise DriverError(f"the API keys in {self._path}: {error}") from error
        return self._known

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Keep other writers out; readers see the old file or the new one, never half of one."""
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(f"{self._path}.lock", os.O_CREAT | os.O_RDWR, 0o600)
        except OSError as error:
            raise DriverError(f"the API keys in {self._path}: {error}") from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def _write(self, keys: tuple[ApiKey, ...]) -> None:
        temporary = self._path.with_name(f"{self._path.name}.new")
        try:
            temporary.unlink(missing_ok=True)
            descriptor = os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(msgspec.json.format(msgspec.json.encode(_File(keys=keys)), indent=2))
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(self._path)
        except OSError as error:
            raise DriverError(f"the API keys in {self._path}: {error}") from error
