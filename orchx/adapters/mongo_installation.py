"""What belongs to an installation as a whole: its log, and a secret that its engines share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from pydantic import SecretStr
from pymongo import ReturnDocument

from orchx.adapters.kafka_records import TURN_OFFSETS
from orchx.adapters.mongo_connection import DATABASE, Layout, MongoConnection
from orchx.adapters.uninterrupted import uninterrupted
from orchx.errors import DriverError

INSTALLATION: Final = Layout(name="installation")
SECRET_ID: Final = "webhook-secret"  # noqa: S105  where it is, not what
LOG: Final = "log"
REPLACING: Final = "replacing"
SLACK: Final = 1_000 * TURN_OFFSETS
"""How far short of its end a log may be told to be: Tansu tells where the last batch began."""


@uninterrupted
class MongoInstallation:
    """Remembers the log that is projected into a database, and refuses every other."""

    def __init__(self, connection: MongoConnection) -> None:
        """Connect on first use."""
        self._connection = connection

    async def bind(self, *, topic_prefix: str, partitions: int) -> None:
        """Note the log the first time, and compare it ever after.

        Raises:
            DriverError: the database was made from another log, or its partitions were grown.
        """
        mine: Mapping[str, str | int] = {"topic_prefix": topic_prefix, "partitions": partitions}
        installation = await self._connection.collection(INSTALLATION)
        with self._connection.translating():
            found = await installation.find_one_and_update(
                {"_id": LOG},
                {"$setOnInsert": mine},
                upsert=True,
                return_document=ReturnDocument.AFTER,
            )
        there = found or mine
        differing = [key for key, value in mine.items() if there[key] != value]
        if differing:
            told = ", ".join(f"{key} was {there[key]!r} and is {mine[key]!r}" for key in differing)
            raise DriverError(
                f"the database that {DATABASE} names was made from another log: {told} (see "
                "ORCHX_KAFKA__TOPIC_PREFIX; partitions are added by `orchx repartition`)"
            )

    async def webhook_secret(self) -> SecretStr | None:
        """Return the webhooks' master secret that is shared; None if there is none yet."""
        installation = await self._connection.collection(INSTALLATION)
        with self._connection.translating():
            found = await installation.find_one({"_id": SECRET_ID})
        return None if found is None else SecretStr(found["secret"])

    async def agree_on_webhook_secret(self, proposed: SecretStr) -> SecretStr:
        """Return the secret that is shared: of several proposed at once, the first one's."""
        installation = await self._connection.collection(INSTALLATION)
        with self._connection.translating():
            agreed = await installation.find_one_and_update(
                {"_id": SECRET_ID},
                {"$setOnInsert": {"secret": proposed.get_secret_value()}},
                upsert=True,
                return_document=ReturnDocument.AFTER,
            )
        return proposed if agreed is None else SecretStr(agreed["secret"])

    async def bound(self) -> tuple[str, int] | None:
        """Return the topic prefix and the number of partitions of the log; None: not bound yet."""
        installation = await self._connection.collection(INSTALLATION)
        with self._connection.translating():
            found = await installation.find_one({"_id": LOG})
        return None if found is None else (found["topic_prefix"], found["partitions"])

    async def begin_replacing(self, heard: Mapping[int, int]) -> Mapping[int, int]:
        """Note that the projections are being made anew; until `end_replacing` nobody may use them.

        Args:
            heard: up to where, of each partition, what records cause was done. Where a former
                attempt was cut short, what it noted stays.

        Returns:
            what is noted.
        """
        mine = {str(partition): offset for partition, offset in heard.items()}
        installation = await self._connection.collection(INSTALLATION)
        with self._connection.translating():
            found = await installation.find_one_and_update(
                {"_id": REPLACING},
                {"$setOnInsert": {"heard": mine}},
                upsert=True,
                return_document=ReturnDocument.AFTER,
            )
        return _heard(found or {"heard": mine})

    async def replacing(self) -> Mapping[int, int] | None:
        """Return what `begin_replacing` has noted, if that has not ended."""
        installation = await self._connection.collection(INSTALLATION)
        with self._connection.translating():
            found = await installation.find_one({"_id": REPLACING})
        return None if found is None else _heard(found)

    async def end_replacing(self) -> None:
        """Note that the projections can be used again."""
        installation = await self._connection.collection(INSTALLATION)
        with self._connection.translating():
            await installation.delete_one({"_id": REPLACING})

    async def check_whole(self) -> None:
        """Check that no replacing was cut short.

        Raises:
            DriverError: one was.
        """
        if await self.replacing() is not None:
            raise DriverError(
                f"the database that {DATABASE} names is half made: run `orchx rebuild --replace`"
                " again, which was cut short"
            )


def _heard(found: Mapping[str, Any]) -> Mapping[int, int]:
    return {int(partition): offset for partition, offset in found["heard"].items()}


def check_reach(archived: Mapping[int, int], ends: Mapping[int, int]) -> None:
    """Check that a log reaches as far as what was made from it; offsets are the log's.

    Raises:
        DriverError: it does not: its topics were made anew, or it is another log.
    """
    beyond = [
        partition
        for partition, end in sorted(ends.items())
        if archived.get(partition, 0) > (end + SLACK if end else 0)
    ]
    if beyond:
        raise DriverError(
            f"the database that {DATABASE} names knows more than the log holds (partitions "
            f"{beyond}): its topics were made anew, or ORCHX_KAFKA__BOOTSTRAP_SERVERS names "
            "another Kafka; use another database and topic prefix, or bring the topics back"
        )
