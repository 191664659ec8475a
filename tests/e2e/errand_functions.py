"""Python functions of the test definitions, loaded by the server with `--tasks`."""

from __future__ import annotations

import hashlib

import orchx

ROUNDS = 100_000


@orchx.task(name="e2e.fingerprint", pool="cpu")
def fingerprint(text: str) -> str:
    """Keep a core busy for a while; the same text gives the same answer."""
    return hashlib.pbkdf2_hmac("sha256", text.encode(), b"e2e", ROUNDS).hex()
