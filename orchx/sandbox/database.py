"""The sandbox's SQLite file: what it holds, and how it is opened."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Final

DATABASE_NAME: Final = "sandbox.sqlite3"
_BUSY_TIMEOUT_S: Final = 5.0
_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS effects (
    seq INTEGER PRIMARY KEY,
    service TEXT NOT NULL,
    operation TEXT NOT NULL,
    idempotency_key TEXT,
    workflow TEXT NOT NULL,
    subject TEXT NOT NULL,
    digest BLOB NOT NULL,
    status INTEGER NOT NULL,
    response BLOB NOT NULL,
    at_ms INTEGER NOT NULL
);
CREATE UNIQUE INDEX IF NOT EXISTS effects_by_key
    ON effects (service, operation, idempotency_key) WHERE idempotency_key IS NOT NULL;
CREATE TABLE IF NOT EXISTS attempts (
    service TEXT NOT NULL,
    operation TEXT NOT NULL,
    idempotency_key TEXT NOT NULL,
    attempts INTEGER NOT NULL,
    replays INTEGER NOT NULL,
    PRIMARY KEY (service, operation, idempotency_key)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS records (
    kind TEXT NOT NULL,
    id TEXT NOT NULL,
    body BLOB NOT NULL,
    PRIMARY KEY (kind, id)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS deliveries (
    seq INTEGER PRIMARY KEY,
    system TEXT NOT NULL,
    webhook_id TEXT NOT NULL,
    webhook_timestamp TEXT NOT NULL,
    webhook_signature TEXT NOT NULL,
    verified INTEGER,
    body TEXT NOT NULL,
    at_ms INTEGER NOT NULL
);
CREATE TABLE IF NOT EXISTS webhook_secrets (
    system TEXT PRIMARY KEY,
    secret TEXT NOT NULL
) WITHOUT ROWID;
"""


def open_database(directory: Path) -> sqlite3.Connection:
    """Open the file in `directory` for writing, and create what is missing.

    Raises:
        sqlite3.Error: the file cannot be opened or is no database.
    """
    directory.mkdir(parents=True, exist_ok=True)
    connection = sqlite3.connect(
        directory / DATABASE_NAME, isolation_level=None, timeout=_BUSY_TIMEOUT_S
    )
    connection.execute("PRAGMA journal_mode=WAL")
    # A power cut may lose the last effects: they stand for somebody else's system.
    connection.execute("PRAGMA synchronous=NORMAL")
    connection.executescript(_SCHEMA)
    return connection


def open_for_reading(directory: Path) -> sqlite3.Connection:
    """Open the file in `directory` for reports that must not hold up the writer."""
    path = (directory / DATABASE_NAME).resolve()
    return sqlite3.connect(
        f"{path.as_uri()}?mode=ro", uri=True, timeout=_BUSY_TIMEOUT_S, check_same_thread=False
    )
