"""Whether MongoDB has a primary that answers, and the database is this engine's."""

from __future__ import annotations

from typing import Final

from orchx.adapters.mongo_connection import MongoConnection
from orchx.adapters.uninterrupted import uninterrupted

TIMEOUT_S: Final = 1.5  # an answer that comes later helps nobody who asks


@uninterrupted
class MongoProbe:
    """A `Probe`."""

    def __init__(self, connection: MongoConnection) -> None:
        """Ask on a connection that others use too."""
        self._connection = connection

    async def check(self) -> None:
        """Return if the primary answers, and the fence, if there is one, is open.

        Raises:
            DriverError, Unavailable: it does not, or is not; the text names the setting.
        """
        await self._connection.ping(TIMEOUT_S)
        if self._connection.fence is not None:
            await self._connection.fence()

    async def close(self) -> None:
        """Do nothing: the connection is others' too."""
