"""Whether Redis answers."""

from __future__ import annotations

from orchx.adapters.redis_connection import RedisConnection


class RedisProbe:
    """A `Probe`. Nothing depends on the answer: without Redis, MongoDB answers."""

    def __init__(self, connection: RedisConnection) -> None:
        """Ask on a connection of its own."""
        self._connection = connection

    async def check(self) -> None:
        """Return if it answers.

        Raises:
            DriverError, Unavailable: it does not; the text names the setting.
        """
        await self._connection.ping()

    async def close(self) -> None:
        """Close the connection."""
        await self._connection.close()
