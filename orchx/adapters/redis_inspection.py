"""What `orchx doctor` looks at in Redis, and what a start does. Nothing is changed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from orchx.adapters.redis_connection import URL, RedisConnection
from orchx.errors import DriverError, OrchxError
from orchx.ports.inspection import Finding

CHECK: Final = "redis"
VERSION_MIN: Final = 5  # scripts that read the clock and write
MIB: Final = 1_048_576


async def check_redis_version(connection: RedisConnection) -> str:
    """Return the server's version; nothing of a cluster, whose nodes may differ.

    Raises:
        DriverError, Unavailable: it is too old, or out of reach.
    """
    return _version_of(await connection.facts())


async def inspect_redis(connection: RedisConnection) -> Finding:
    """Return what was found."""
    try:
        facts = await connection.facts()
        version = _version_of(facts)
    except OrchxError as error:
        advice = f"Look at {URL}. A start needs it; later, MongoDB answers in its place."
        return Finding(check=CHECK, level="fail", detail=str(error), advice=advice)
    limit_bytes = int(facts.get("maxmemory", 0))
    policy = str(facts.get("maxmemory_policy", "unknown"))
    room = f"{limit_bytes // MIB} MiB, {policy}" if limit_bytes else "no maxmemory"
    detail = f"Redis {version or '(cluster)'}, {room}"
    if limit_bytes and policy == "noeviction":
        advice = "When it is full it takes nothing new: set maxmemory-policy allkeys-lru. What it"
        advice += " evicts is asked of MongoDB."
        return Finding(check=CHECK, level="warn", detail=detail, advice=advice)
    return Finding(check=CHECK, level="ok", detail=detail)


def _version_of(facts: Mapping[str, Any]) -> str:
    version = str(facts.get("redis_version", ""))
    if version and int(version.partition(".")[0]) < VERSION_MIN:
        raise DriverError(f"Redis {VERSION_MIN} or newer is needed; {URL} names one of {version}")
    return version
