"""Keeping an engine that comes late off a database that is not its log's any more."""

from __future__ import annotations

import time
from typing import Final

from orchx.adapters.mongo_connection import DATABASE, MongoConnection
from orchx.adapters.mongo_installation import INSTALLATION, LOG, REPLACING
from orchx.adapters.uninterrupted import uninterrupted
from orchx.errors import DriverError

HOLDS_S: Final = 5.0
"""What was seen is believed for so long: less than an operator's command waits for engines."""


@uninterrupted
class MongoFence:
    """Says whether an engine may still use what is made from the log.

    It may have been cut off, and taken for dead, while the log was moved or its projections were
    made anew; what it then wrote would stand among theirs.
    """

    def __init__(self, connection: MongoConnection, topic_prefix: str) -> None:
        """Ask nothing yet; `topic_prefix` is that of the engine's log."""
        self._connection = connection
        self._topic_prefix = topic_prefix
        self._clear_until_s = 0.0

    async def check(self) -> None:
        """Return if it may; what was seen a moment ago is not asked again.

        Raises:
            DriverError: the database belongs to another log, or is being made anew.
            DriverError, Unavailable: MongoDB is out of reach.
        """
        asked_s = time.monotonic()
        if asked_s < self._clear_until_s:
            return
        installation = await self._connection.collection(INSTALLATION)
        with self._connection.translating():
            found = await installation.find({"_id": {"$in": [LOG, REPLACING]}}).to_list()
        there = {document["_id"]: document for document in found}
        prefix = there.get(LOG, {}).get("topic_prefix", self._topic_prefix)
        if prefix != self._topic_prefix:
            raise DriverError(
                f"the log has moved while this engine was away: set "
                f"ORCHX_KAFKA__TOPIC_PREFIX={prefix}, and start it anew"
            )
        if REPLACING in there:
            raise DriverError(
                f"the database that {DATABASE} names is being made anew by `orchx rebuild "
                "--replace`; if that was cut short, run it again"
            )
        self._clear_until_s = asked_s + HOLDS_S
