"""Receives webhooks in the place of the enterprise's systems, and keeps every one."""

from __future__ import annotations

import sqlite3
import time
from typing import Final

import msgspec
from msgspec import Raw, Struct
from standardwebhooks.webhooks import (
    EmptyWebhookSecretError,
    Webhook,
    WebhookVerificationError,
)

from orchx.sandbox.group_commit import GroupCommit
from orchx.sandbox.problems import Problem
from orchx.sandbox.replies import Reply

PAGE_MAX_DELIVERIES: Final = 1_000
_ACCEPTED: Final = Reply(status=204, body=b"")


class Delivery(Struct, frozen=True, kw_only=True):
    """One delivered webhook.

    `verified` is None when the system has no secret; `seq` counts deliveries to all
    systems; `at_ms` is Unix time; `body` is what was delivered.
    """

    seq: int
    webhook_id: str
    webhook_timestamp: str
    webhook_signature: str
    verified: bool | None
    body: Raw
    at_ms: int


class InboxCounts(Struct, frozen=True, kw_only=True):
    """The deliveries to one system; `duplicates` share a webhook id with an earlier one."""

    deliveries: int
    distinct_ids: int
    duplicates: int
    verified: int
    rejected: int


class Inbox:
    """Stores deliveries in the order in which they arrive."""

    def __init__(self, connection: sqlite3.Connection, commits: GroupCommit) -> None:
        self._connection = connection
        self._commits = commits
        rows: list[tuple[str, str]] = connection.execute(
            "SELECT system, secret FROM webhook_secrets"
        ).fetchall()
        self._verifiers = {system: Webhook(secret) for system, secret in rows}

    async def register_secret(self, system: str, secret: str) -> None:
        """Verify what is delivered to `system` from now on.

        Raises:
            Problem: 422 when the secret is not `whsec_` and base64.
        """
        try:
            verifier = Webhook(secret)
        except (ValueError, EmptyWebhookSecretError) as error:
            raise Problem(422, "invalid-input", str(error), pointer="/secret") from error
        await self._commits.run(
            lambda: self._connection.execute(
                "INSERT INTO webhook_secrets VALUES (?, ?)"
                " ON CONFLICT DO UPDATE SET secret = excluded.secret",
                (system, secret),
            )
        )
        self._verifiers[system] = verifier

    async def receive(self, system: str, headers: dict[str, str], body: bytes) -> Reply:
        """Store a delivery, also one that fails verification, and answer it.

        Args:
            system: whose inbox it is.
            headers: request headers, names in lower case.
            body: the content, JSON.

        Raises:
            Problem: 401 when the signature is wrong, 400 when the content is no JSON.
        """
        try:
            text = body.decode()
            msgspec.json.decode(body)
        except (UnicodeDecodeError, msgspec.DecodeError) as error:
            raise Problem(400, "malformed-json", str(error)) from error
        verified = self._verify(system, headers, text)
        row = (
            system,
            headers.get("webhook-id", ""),
            headers.get("webhook-timestamp", ""),
            headers.get("webhook-signature", ""),
            verified,
            text,
            time.time_ns() // 1_000_000,
        )
        await self._commits.run(
            lambda: self._connection.execute(
                "INSERT INTO deliveries VALUES (NULL, ?, ?, ?, ?, ?, ?, ?)", row
            )
        )
        if verified is False:
            raise Problem(401, "invalid-signature", "The webhook's signature is not right.")
        return _ACCEPTED

    def page(self, system: str, since: int, limit: int) -> list[Delivery]:
        """Return up to `limit` deliveries to `system` numbered above `since`, in order."""
        rows = self._connection.execute(
            "SELECT seq, webhook_id, webhook_timestamp, webhook_signature, verified, body, at_ms"
            " FROM deliveries WHERE system = ? AND seq > ? ORDER BY seq LIMIT ?",
            (system, since, limit),
        )
        return [
            Delivery(
                seq=seq,
                webhook_id=webhook_id,
                webhook_timestamp=timestamp,
                webhook_signature=signature,
                verified=None if verified is None else bool(verified),
                body=Raw(body.encode()),
                at_ms=at_ms,
            )
            for seq, webhook_id, timestamp, signature, verified, body, at_ms in rows
        ]

    def summary(self) -> dict[str, InboxCounts]:
        """Count the deliveries to each system."""
        rows = self._connection.execute(
            "SELECT system, count(*), count(DISTINCT webhook_id), coalesce(sum(verified = 1), 0),"
            " coalesce(sum(verified = 0), 0) FROM deliveries GROUP BY system"
        )
        return {
            system: InboxCounts(
                deliveries=deliveries,
                distinct_ids=distinct_ids,
                duplicates=deliveries - distinct_ids,
                verified=verified,
                rejected=rejected,
            )
            for system, deliveries, distinct_ids, verified, rejected in rows
        }

    def _verify(self, system: str, headers: dict[str, str], text: str) -> bool | None:
        verifier = self._verifiers.get(system)
        if verifier is None:
            return None
        try:
            verifier.verify(text, headers, json_parse=False)
        except (WebhookVerificationError, ValueError):
            return False
        return True
