"""The secrets that sign webhooks: one to a tenant, derived from one master.

The master is configured, or made once and kept in the data folder. A tenant's receivers know
the tenant's secret only, and so cannot forge webhooks to another's.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import os
import secrets
import tempfile
from pathlib import Path

from orchx.errors import DriverError, InvalidRequest
from orchx.settings import Settings

PREFIX = "whsec_"
FILE_NAME = "webhook-secret"
SECRET_BYTES = 32
SHORTEST_BYTES = 24
"""Standard Webhooks: between 24 and 64 bytes."""
LONGEST_BYTES = 64


def tenant_secret(master: str, tenant: str) -> str:
    """Return the secret that a tenant's webhooks are signed with, as `whsec_` and base64.

    It is HMAC-SHA256 of the tenant's name, with the master's bytes as the key.
    """
    key = base64.b64decode(master.removeprefix(PREFIX))
    derived = hmac.digest(key, tenant.encode(), hashlib.sha256)
    return PREFIX + base64.b64encode(derived).decode()


def webhook_secret(settings: Settings) -> str:
    """Return the master secret: `whsec_`, base64; make it, for its owner's eyes, if need be.

    Safe for processes that start at once: the first one's secret is everyone's.

    Raises:
        InvalidRequest: the configured or stored secret is not one.
        DriverError: the data folder cannot be read or written.
    """
    configured = settings.webhooks.secret
    if configured is not None:
        return _checked(configured.get_secret_value(), "setting ORCHX_WEBHOOKS__SECRET")
    path = settings.data_dir / FILE_NAME
    try:
        if not path.exists():
            _make(path)
        return _checked(path.read_text(encoding="ascii").strip(), str(path))
    except OSError as error:
        raise DriverError(f"the webhook secret in {path}: {error}") from error


def _make(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    secret = PREFIX + base64.b64encode(secrets.token_bytes(SECRET_BYTES)).decode()
    descriptor, draft = tempfile.mkstemp(dir=path.parent, prefix=f".{FILE_NAME}-")  # mode 0600
    try:
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(secret + "\n")
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(draft, path)  # unlike a rename, fails if another process was first
        except FileExistsError:
            return
    finally:
        os.unlink(draft)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _checked(secret: str, origin: str) -> str:
    """Return the secret if it is one; never say what it was."""
    try:
        if not secret.startswith(PREFIX):
            raise ValueError("no prefix")
        length = len(base64.b64decode(secret.removeprefix(PREFIX), validate=True))
    except (ValueError, binascii.Error) as error:
        raise InvalidRequest(f"{origin} must be {PREFIX} followed by base64") from error
    if not SHORTEST_BYTES <= length <= LONGEST_BYTES:
        raise InvalidRequest(
            f"{origin} must hold {SHORTEST_BYTES} to {LONGEST_BYTES} bytes, not {length}"
        )
    return secret
