"""What `orchx doctor` looks at in MongoDB. Nothing is made or changed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from orchx.adapters.mongo_connection import DATABASE, URI, MongoConnection
from orchx.errors import OrchxError
from orchx.ports.inspection import Finding

CHECK: Final = "mongodb"
ACTIONS: Final = frozenset(
    {"find", "insert", "update", "remove", "createIndex", "createCollection"}
)
"""What orchx does in its database: the role readWrite has it all."""


async def inspect_mongodb(connection: MongoConnection, database: str) -> Finding:
    """Return what was found, within the settings' `timeout_ms`."""
    try:
        facts = await connection.facts()
    except OrchxError as error:
        return Finding(check=CHECK, level="fail", detail=str(error), advice=f"Look at {URI}.")
    detail = f"MongoDB {facts.version}, replica set {facts.replica_set or '(behind mongos)'}"
    lacking = lacking_rights(facts.status, database)
    if lacking:
        return Finding(
            check=CHECK,
            level="fail",
            detail=f"{detail}: the user in {URI} may not {', '.join(lacking)}",
            advice=f"Give it the role readWrite on the database {database} ({DATABASE}).",
        )
    return Finding(check=CHECK, level="ok", detail=detail)


def lacking_rights(status: Mapping[str, Any], database: str) -> list[str]:
    """Return what the user may not do that orchx does; nothing where nobody has to log in.

    Args:
        status: the answer to `connectionStatus` with `showPrivileges`.
        database: orchx's.
    """
    info = status["authInfo"]
    if not info["authenticatedUsers"]:
        return []
    allowed: set[str] = set()
    for privilege in info["authenticatedUserPrivileges"]:
        if _covers(privilege["resource"], database):
            allowed.update(privilege["actions"])
    return [] if "anyAction" in allowed else sorted(ACTIONS - allowed)


def _covers(resource: Mapping[str, Any], database: str) -> bool:
    if resource.get("anyResource"):
        return True
    names: Iterable[object] = ("", database)
    return resource.get("db") in names and resource.get("collection") == ""
