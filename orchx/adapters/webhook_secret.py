"""The secrets that sign webhooks: one to a tenant, derived from one master.

The master is configured, or made once and kept in the data folder; engines that share their
stores share it too (`MongoInstallation`). A tenant's receivers know
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

from pydantic import SecretStr

from orchx.errors import Bug, DriverError, InvalidRequest
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


def new_webhook_secret() -> SecretStr:
    """Return a master secret that nobody has."""
    return SecretStr(PREFIX + base64.b64encode(secrets.token_bytes(SECRET_BYTES)).decode())


def webhook_secret(settings: Settings) -> str:
    """Return the master secret: `whsec_`, base64; make it, for its owner's eyes, if need be.

    Safe for processes that start at once: the first one's secret is everyone's.

    Raises:
        InvalidRequest: the configured or stored secret is not one.
        DriverError: the data folder cannot be read or written.
    """
    configured = settings.webhooks.secret
    if configured is not None:
        return checked_secret(configured)
    if settings.profile != "embedded":  # a secret in a folder of one node would be another's
        raise Bug("the webhook secret is asked for before the stores were prepared")
    path = settings.data_dir / FILE_NAME
    try:
        if not path.exists():
            _make(path)
        return _checked(path.read_text(encoding="ascii").strip(), str(path))
    except OSError as error:
        raise DriverError(f"the webhook secret in {path}: {error}") from error


def find_webhook_secret(settings: Settings) -> SecretStr | None:
    """Return the master secret that is in the data folder; None if there is none.

    Raises:
        InvalidRequest: it is not one.
        DriverError: the data folder cannot be read.
    """
    if not (settings.data_dir / FILE_NAME).is_file():
        return None
    return SecretStr(webhook_secret(settings))


def _make(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    secret = new_webhook_secret().get_secret_value()
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


def checked_secret(configured: SecretStr) -> str:
    """Return a master secret from the settings, or that engines share.

    Raises:
        InvalidRequest: it is not one.
    """
    return _checked(configured.get_secret_value(), "setting webhooks.secret")


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
