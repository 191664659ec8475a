"""The ledger: every effect that the services had, kept so that duplicates can be counted."""

from __future__ import annotations

import hashlib
import sqlite3
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from orchx.sandbox.group_commit import GroupCommit
from orchx.sandbox.operations import Call, Input, Operation, Records
from orchx.sandbox.problems import Problem
from orchx.sandbox.replies import Reply

IDEMPOTENCY_KEY_MAX_CHARACTERS: Final = 255
ATTEMPT_KEYS_MAX: Final = 1_000
_REPLAYED: Final = ((b"idempotency-replayed", b"true"),)
_DIGEST_BYTES: Final = 16
_encode = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True, kw_only=True)
class Invocation:
    """One valid call of an operation.

    Args:
        service: whose operation it is.
        operation: what is asked for.
        path: path parameters by name.
        input: decoded body or query.
        idempotency_key: the caller's key, if it sent one.
        workflow: id of the calling workflow, or "".
    """

    service: str
    operation: Operation
    path: dict[str, str]
    input: Input
    idempotency_key: str | None
    workflow: str

    def digest(self) -> bytes:
        """Hash what is asked for; the order of members and white space make no difference."""
        content = _encode((self.path, self.input))
        return hashlib.blake2b(content, digest_size=_DIGEST_BYTES).digest()


class Ledger:
    """Carries out operations, each effect together with its entry."""

    def __init__(self, connection: sqlite3.Connection, commits: GroupCommit) -> None:
        self._connection = connection
        self._commits = commits
        self._records = Records(connection)
        self._last_seq: int = connection.execute(
            "SELECT coalesce(max(seq), 0) FROM effects"
        ).fetchone()[0]
        self._attempts: Counter[tuple[str, str, str]] = Counter()
        self._replays: Counter[tuple[str, str, str]] = Counter()

    async def perform(self, invocation: Invocation) -> Reply:
        """Carry out a call: an effect is committed before this returns.

        Raises:
            Problem: the operation refuses, the key was used with other content, or the
                ledger is overloaded.
            sqlite3.Error: the ledger could not be written.
        """
        operation = invocation.operation
        subject_of = operation.subject
        if subject_of is None:
            call = Call(path=invocation.path, number=0, records=self._records)
            answer = operation.handle(invocation.input, call)
            return Reply(status=operation.status, body=_encode(answer))
        return await self._commits.run(lambda: self._perform_within_batch(invocation, subject_of))

    def count_attempt(self, service: str, operation: Operation, key: str | None) -> None:
        """Count a call, whatever becomes of it. Counts are written in batches."""
        self._attempts[service, operation.capability, key or ""] += 1
        if len(self._attempts) >= ATTEMPT_KEYS_MAX:
            self.flush_counts()

    def flush_counts(self) -> None:
        """Write the counts that are held in memory."""
        rows = [
            (*identity, self._attempts[identity], self._replays[identity])
            for identity in self._attempts.keys() | self._replays.keys()
        ]
        self._attempts.clear()
        self._replays.clear()
        self._connection.execute("BEGIN IMMEDIATE")
        self._connection.executemany(
            "INSERT INTO attempts VALUES (?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET"
            " attempts = attempts + excluded.attempts, replays = replays + excluded.replays",
            rows,
        )
        self._connection.execute("COMMIT")

    def _perform_within_batch(
        self, invocation: Invocation, subject_of: Callable[[Any, Call], str]
    ) -> Reply:
        operation = invocation.operation
        digest = invocation.digest()
        if (stored := self._stored(invocation, digest)) is not None:
            return stored
        call = Call(path=invocation.path, number=self._last_seq + 1, records=self._records)
        subject = subject_of(invocation.input, call)
        body = _encode(operation.handle(invocation.input, call))
        self._connection.execute(
            "INSERT INTO effects VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                call.number,
                invocation.service,
                operation.capability,
                invocation.idempotency_key,
                invocation.workflow,
                subject,
                digest,
                operation.status,
                body,
                time.time_ns() // 1_000_000,
            ),
        )
        self._last_seq = call.number
        return Reply(status=operation.status, body=body)

    def _stored(self, invocation: Invocation, digest: bytes) -> Reply | None:
        key = invocation.idempotency_key
        if key is None:
            return None
        identity = (invocation.service, invocation.operation.capability, key)
        row = self._connection.execute(
            "SELECT digest, status, response FROM effects"
            " WHERE service = ? AND operation = ? AND idempotency_key = ?",
            identity,
        ).fetchone()
        if row is None:
            return None
        if row[0] != digest:
            raise Problem(
                422, "idempotency-key-reused", "This key was used before with other content."
            )
        self._replays[identity] += 1
        return Reply(status=row[1], body=row[2], headers=_REPLAYED)
