"""Reads the ledger: pages of effects, and a summary that counts duplicates."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Final

from msgspec import Struct

from orchx.sandbox.database import open_for_reading

PAGE_MAX_EFFECTS: Final = 1_000
_PAGE: Final = """
SELECT seq, service, operation, idempotency_key, workflow, subject, lower(hex(digest)), status,
       at_ms
FROM effects WHERE seq > :since AND (:workflow IS NULL OR workflow = :workflow)
ORDER BY seq LIMIT :limit
"""
_BY_OPERATION: Final = """
SELECT operation, count(*), count(DISTINCT idempotency_key) FROM effects GROUP BY operation
"""
# Grouped without the service: two providers doing the same thing for one workflow is a duplicate.
_DUPLICATED: Final = """
SELECT operation, sum(times - 1) FROM (
    SELECT operation, count(*) AS times FROM effects
    GROUP BY workflow, operation, subject HAVING times > 1
) GROUP BY operation
"""
_ATTEMPTS: Final = "SELECT operation, sum(attempts), sum(replays) FROM attempts GROUP BY operation"


class Effect(Struct, frozen=True, kw_only=True):
    """One entry: something a service did. `seq` counts up from 1; `at_ms` is Unix time."""

    seq: int
    service: str
    operation: str
    idempotency_key: str | None
    workflow: str
    subject: str
    digest: str
    status: int
    at_ms: int


class Page(Struct, frozen=True, kw_only=True):
    """Some effects in order. Ask again with `since=next_since` while `more` is true."""

    effects: list[Effect]
    next_since: int
    more: bool


class OperationCounts(Struct, kw_only=True):
    """The counts of one operation, all of its services together."""

    effects: int = 0
    distinct_keys: int = 0
    duplicated_effects: int = 0
    attempts: int = 0
    replays: int = 0


class Summary(Struct, frozen=True, kw_only=True):
    """The counts of the whole ledger, and of each operation.

    `duplicated_effects` is how many effects share workflow, operation and business
    subject with an earlier one. A `replays` is a call answered from the ledger.
    """

    effects: int
    distinct_keys: int
    duplicated_effects: int
    attempts: int
    replays: int
    by_operation: dict[str, OperationCounts]


def read_page(directory: Path, since: int, limit: int, workflow: str | None) -> Page:
    """Read up to `limit` effects numbered above `since`, of one workflow or of all."""
    arguments = {"since": since, "workflow": workflow, "limit": limit + 1}
    with closing(open_for_reading(directory)) as connection:
        rows = connection.execute(_PAGE, arguments).fetchall()
    effects = [Effect(**dict(zip(Effect.__struct_fields__, row, strict=True))) for row in rows]
    shown = effects[:limit]
    return Page(
        effects=shown,
        next_since=shown[-1].seq if shown else since,
        more=len(effects) > limit,
    )


def read_summary(directory: Path) -> Summary:
    """Count everything in the ledger; one pass over it, so not for a hot path."""
    counts: dict[str, OperationCounts] = {}
    with closing(open_for_reading(directory)) as connection:
        connection.execute("BEGIN")  # One snapshot for the three counts.
        for operation, effects, distinct_keys in connection.execute(_BY_OPERATION):
            counts[operation] = OperationCounts(effects=effects, distinct_keys=distinct_keys)
        for operation, duplicated in connection.execute(_DUPLICATED):
            counts[operation].duplicated_effects = duplicated
        for operation, attempts, replays in connection.execute(_ATTEMPTS):
            entry = counts.setdefault(operation, OperationCounts())
            entry.attempts, entry.replays = attempts, replays
    return Summary(
        effects=sum(entry.effects for entry in counts.values()),
        distinct_keys=sum(entry.distinct_keys for entry in counts.values()),
        duplicated_effects=sum(entry.duplicated_effects for entry in counts.values()),
        attempts=sum(entry.attempts for entry in counts.values()),
        replays=sum(entry.replays for entry in counts.values()),
        by_operation=counts,
    )


def read_attempts(directory: Path, key: str) -> list[dict[str, object]]:
    """Count the calls that carried this idempotency key, per service and operation."""
    with closing(open_for_reading(directory)) as connection:
        rows: list[tuple[str, str, int, int]] = connection.execute(
            "SELECT service, operation, attempts, replays FROM attempts WHERE idempotency_key = ?",
            (key,),
        ).fetchall()
    names = ("service", "operation", "attempts", "replays")
    return [dict(zip(names, row, strict=True)) for row in rows]
