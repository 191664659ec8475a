"""The command queue on a Kafka topic, with its index in MongoDB.

What is on the topic is what counts: a command is accepted once all replicas in sync have it.
The index, by which a repeated id is recognised, is fed from the topic by `CommandIndexer`,
and lags behind it by some 100 ms.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from orchx.adapters.coalesced_query import CoalescedQuery
from orchx.adapters.kafka_command_feed import CommandFeed
from orchx.adapters.kafka_command_lookup import CommandLookup
from orchx.adapters.kafka_command_reader import KafkaCommandReader
from orchx.adapters.kafka_command_records import (
    decode_command,
    digest_of,
    encode_command,
    key_name,
    partition_of_command,
)
from orchx.adapters.kafka_connection import Topics
from orchx.adapters.kafka_recent_commands import KnownCommand, RecentCommands
from orchx.adapters.kafka_writer import KafkaWriter, Outgoing
from orchx.adapters.mongo_command_index import MongoCommandIndex
from orchx.adapters.mongo_command_progress import MongoCommandProgress
from orchx.adapters.mongo_connection import MongoConnection
from orchx.domain.messages import AnyCommand
from orchx.errors import Bug, Conflict, DriverError, Unavailable
from orchx.ports.command_queue import Accepted, Backlog, Known
from orchx.settings import KafkaSettings

OFFER_PAUSE_S: Final = 0.02
ARRIVALS_BYTES_MAX: Final = 8 * 1_048_576
BUSY_PER_S: Final = 100  # puts, beyond which they wait for each other
PUTS_MAX: Final = 20_000  # ids that are being put at once


@dataclass(frozen=True, slots=True, kw_only=True)
class _Offer:
    command: AnyCommand
    payload: bytes
    digest: str

    @property
    def id(self) -> str:
        return self.command.id


class KafkaCommandQueue:
    """A `CommandQueue`. Any process may put and find; the Dispatcher's `consumes` as well.

    Two puts of one id at the same time: in one process the first decides and the other waits
    for it. Of two processes both may be told that the command is new, for the index lags; both
    are on the topic then, the first one there counts, the window leaves the second out, and
    the workflow's fold knows the id if it comes by all the same.
    """

    def __init__(
        self,
        settings: KafkaSettings,
        connection: MongoConnection,
        *,
        consumes: bool = False,
        recent: RecentCommands | None = None,
    ) -> None:
        """Connect nowhere yet.

        Args:
            settings: where Kafka is.
            connection: to the database with the index.
            consumes: whether this process takes commands off the queue: the Dispatcher's.
            recent: shared with the `CommandIndexer` of this process, where there is one.
        """
        self._topic = Topics(settings.topic_prefix).commands
        self._writer = KafkaWriter(settings, "commands", busy_per_s=BUSY_PER_S)
        self._reader = KafkaCommandReader(settings, self._topic, "command-offsets")
        self._index = MongoCommandIndex(connection)
        self._progress = MongoCommandProgress(connection)
        self._recent = RecentCommands() if recent is None else recent
        self._ends = CoalescedQuery(self._ask_ends)
        self._feed = CommandFeed(settings, connection, self._ends) if consumes else None
        self._lookup = CommandLookup(
            index=self._index,
            recent=self._recent,
            window=None if self._feed is None else self._feed.window,
            ask_ends=self._ends.get,
        )
        self._partitions = 0
        self._under_way: dict[str, asyncio.Task[Sequence[Accepted]]] = {}
        self._closed = False

    # -- putting ---------------------------------------------------------------------------

    async def put(self, commands: Sequence[AnyCommand]) -> Sequence[Accepted]:
        """Store commands; on return they are durable.

        Raises:
            Conflict: a known id came with another content; nothing of this call was stored.
            TooLarge: a command is larger than the queue takes; likewise.
            Unavailable: MongoDB is out of reach, or too much is under way; likewise.
            DriverError: Kafka did not take all of them, or perhaps not: to be put again, which
                stores none twice that the index knows by then.
        """
        if not commands:
            return ()
        offers = [
            _Offer(command=one, payload=encode_command(one), digest=digest_of(one))
            for one in commands
        ]
        ids = {offer.id for offer in offers}
        while others := {self._under_way[id_] for id_ in ids if id_ in self._under_way}:
            await asyncio.wait(others)
        if self._closed:
            raise DriverError(f"the queue on {self._topic} is closed")
        if len(self._under_way) + len(ids) > PUTS_MAX and self._under_way:
            raise Unavailable(f"{PUTS_MAX} commands are being written to {self._topic} already")
        # A task of its own: a caller who leaves must not leave it open what became of it.
        task = asyncio.create_task(self._put(offers))
        self._under_way.update(dict.fromkeys(ids, task))
        task.add_done_callback(lambda done: self._end(done, ids))
        return await asyncio.shield(task)

    async def _put(self, offers: Sequence[_Offer]) -> Sequence[Accepted]:
        accepted, fresh = _judged(offers, await self._lookup.digests(one.id for one in offers))
        if not fresh:
            return accepted
        count = await self._partition_count()
        records = [
            Outgoing(
                topic=self._topic,
                partition=partition_of_command(offer.command, count),
                key=key_name(offer.command).encode(),
                value=offer.payload,
            )
            for offer in fresh
        ]
        try:
            offsets = await self._writer.send(records)
        except DriverError:
            self._lookup.doubt(offer.id for offer in fresh)
            raise
        for offer, record, offset in zip(fresh, records, offsets, strict=True):
            self._recent.note(
                KnownCommand(
                    id=offer.id,
                    digest=offer.digest,
                    payload=offer.payload,
                    created_at_ms=offer.command.created_at_ms,
                    partition=record.partition,
                    offset=offset,
                )
            )
        return accepted

    def _end(self, task: asyncio.Task[Sequence[Accepted]], ids: set[str]) -> None:
        for command_id in ids:
            if self._under_way.get(command_id) is task:
                del self._under_way[command_id]
        if not task.cancelled():
            task.exception()  # heard, though the caller may have left

    # -- taking ----------------------------------------------------------------------------

    async def hold(self, partitions: Collection[int]) -> None:
        """Take commands of these partitions from now on, and of no others."""
        await self._consuming().hold(partitions)

    def watermarks(self) -> Mapping[int, int]:
        """Return of each partition held the offset below which all is acknowledged."""
        return self._consuming().window.watermarks()

    async def arrivals(
        self, *, after_position: int, known: Known
    ) -> tuple[int, Sequence[AnyCommand]]:
        """Wait for commands that other processes have put; return them, and a position.

        Those that this engine's ingestion has put are on their way to the Dispatcher by
        themselves: they are given a moment to be known.
        """
        window = self._consuming().window
        await self._consuming().arrived(after_position)
        await asyncio.sleep(OFFER_PAUSE_S)
        found: list[AnyCommand] = []
        size = 0
        ids, reached = window.ids(after_position=after_position)
        for position, command_id in ids:
            payload = None if known(command_id) else window.payload(command_id)
            if payload is not None:
                found.append(decode_command(payload))
                size += len(payload)
            if size >= ARRIVALS_BYTES_MAX:
                return position, found
        return max(after_position, reached), found

    async def pending(self, *, after_position: int, limit: int) -> Sequence[tuple[int, AnyCommand]]:
        """Return commands not yet acknowledged, oldest first; see `CommandWindow`.

        Whatever was put before the call is among them, but for what a full window has no room
        for: that comes as others are acknowledged.
        """
        feed = self._consuming()
        feed.start()
        page = feed.window.page(after_position=after_position, limit=limit)
        if len(page) < limit:
            await feed.catch_up()
            page = feed.window.page(after_position=after_position, limit=limit)
        return [(position, decode_command(payload)) for position, payload in page]

    async def acknowledge(self, command_ids: Sequence[str]) -> None:
        """Mark commands as applied; within a second or so that is durable.

        What became durable later than the latest of that comes again after a crash.
        """
        feed = self._consuming()
        feed.start()
        feed.window.acknowledge(command_ids)

    async def backlog(self) -> Backlog:
        """Count what is not acknowledged; commands of no tenant only count in the total.

        Where commands are consumed, those of the partitions held are, by tenant too; elsewhere
        only the total is known, as of about a second ago.

        Raises:
            DriverError, Unavailable: Kafka or MongoDB is out of reach; the text says which.
        """
        await self._index.pruned_before_ms()
        if self._feed is not None:
            ends, window = await self._feed.catch_up(), self._feed.window
            return Backlog(total=len(window) + window.unread(ends), by_tenant=window.by_tenant())
        acknowledged = await self._progress.watermarks()
        ends = await self._ends.get()
        waiting = (max(0, end - acknowledged.get(number, 0)) for number, end in ends.items())
        return Backlog(total=sum(waiting), by_tenant={})

    def _consuming(self) -> CommandFeed:
        if self._feed is None:
            raise Bug("commands are taken off the queue only where it was told `consumes`")
        return self._feed

    # -- remembering -----------------------------------------------------------------------

    async def find(self, command_id: str) -> AnyCommand | None:
        """Return a command, acknowledged or not, unless it was pruned.

        Raises:
            Unavailable: it is unknown, and the index did not catch up with the topic in time.
        """
        return await self._lookup.find(command_id)

    async def prune(self, *, older_than_ms: int) -> int:
        """Forget acknowledged commands accepted before this time; return how many.

        One that stands above a command that is not acknowledged is kept until that is. Other
        processes may recognise an id for `RECENT_AGE_S` longer.
        """
        await self._index.note_pruned(older_than_ms)
        if self._feed is not None:
            await self._feed.catch_up()
            await self._feed.store()
            self._feed.window.forget(older_than_ms=older_than_ms)
        below = await self._progress.watermarks()
        await self._lookup.wait_for_index()
        self._recent.forget(older_than_ms=older_than_ms, below=below)
        return await self._index.prune(older_than_ms=older_than_ms, below=below)

    async def pruned_before_ms(self) -> int:
        """Return the latest time that `prune` was called with; 0 if it never was.

        It is also that of the latest record of the topic that expired before it was indexed.
        """
        return await self._index.pruned_before_ms()

    async def close(self) -> None:
        """Finish what is under way, commit what was acknowledged, let go of the connections."""
        if self._closed:
            return
        self._closed = True
        if self._under_way:
            await asyncio.wait(set(self._under_way.values()))
        if self._feed is not None:
            await self._feed.close()
        await self._lookup.close()
        await self._ends.close()
        await self._writer.close()
        await self._reader.close()
        await self._index.close()

    # -- asking ----------------------------------------------------------------------------

    async def _partition_count(self) -> int:
        if not self._partitions:
            self._partitions = len(await self._reader.partitions())
        return self._partitions

    async def _ask_ends(self, _: frozenset[str]) -> dict[int, int]:
        return dict(await self._reader.ends())


def _judged(
    offers: Sequence[_Offer], known: Mapping[str, str]
) -> tuple[Sequence[Accepted], Sequence[_Offer]]:
    """Return what to say of each offer, and the first one of every id that is new."""
    fresh: dict[str, _Offer] = {}
    accepted: list[Accepted] = []
    for offer in offers:
        there = fresh[offer.id].digest if offer.id in fresh else known.get(offer.id)
        if there is None:
            fresh[offer.id] = offer
        elif there != offer.digest:
            raise Conflict(f"command id {offer.id!r} was used before with another content")
        accepted.append(Accepted(command_id=offer.id, duplicate=there is not None))
    return accepted, list(fresh.values())
