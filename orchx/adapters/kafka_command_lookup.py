"""Which commands are known: to this process, to its window, or to the index."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Final

from orchx.adapters.coalesced_query import CoalescedQuery
from orchx.adapters.kafka_command_records import decode_command, digest_of
from orchx.adapters.kafka_command_window import CommandWindow
from orchx.adapters.kafka_recent_commands import RecentCommands
from orchx.adapters.mongo_command_index import MongoCommandIndex
from orchx.domain.messages import AnyCommand
from orchx.errors import Unavailable

INDEX_TIMEOUT_S: Final = 10.0
INDEX_POLL_S: Final = 0.02
INDEX_POLL_MAX_S: Final = 0.2
UNCERTAIN_MAX: Final = 20_000


class CommandLookup:
    """Looks commands up by id, in what is nearest first.

    Args:
        index: has all of them, some 100 ms later.
        recent: those that this process knows to be on the topic.
        window: those that this process has read and that wait; None where it reads none.
        ask_ends: returns the topic's end offsets.
    """

    def __init__(
        self,
        *,
        index: MongoCommandIndex,
        recent: RecentCommands,
        window: CommandWindow | None,
        ask_ends: Callable[[], Awaitable[Mapping[int, int]]],
    ) -> None:
        self._index = index
        self._recent = recent
        self._window = window
        self._ask_ends = ask_ends
        self._digests = CoalescedQuery(index.digests)
        self._indexed = CoalescedQuery(self._wait_for_index)
        self._uncertain: OrderedDict[str, None] = OrderedDict()

    async def digests(self, command_ids: Iterable[str]) -> Mapping[str, str]:
        """Return what tells a repetition, of those commands that are known.

        What another process has put a moment ago may be missing.

        Raises:
            Unavailable, DriverError: the index is out of reach; or, where an earlier put has
                failed, it did not catch up with the topic.
        """
        ids = set(command_ids)
        if not ids.isdisjoint(self._uncertain):
            await self._indexed.get()
            for command_id in ids:
                self._uncertain.pop(command_id, None)
        known: dict[str, str] = {}
        for command_id in ids:
            recent, waiting = self._recent.get(command_id), self._waiting(command_id)
            if recent is not None:
                known[command_id] = recent.digest
            elif waiting is not None:
                known[command_id] = digest_of(decode_command(waiting))
        unknown = ids.difference(known)
        if unknown:
            found = await self._digests.get(unknown)
            known.update((one, found[one]) for one in unknown if one in found)
        return known

    async def find(self, command_id: str) -> AnyCommand | None:
        """Return a command that was on the topic when this was called, unless it was pruned.

        Raises:
            Unavailable: it is unknown, and the index did not catch up with the topic in time.
            DriverError: the index is out of reach, or Kafka.
        """
        recent = self._recent.get(command_id)
        payload = self._waiting(command_id) if recent is None else recent.payload
        if payload is not None:
            return decode_command(payload)
        found = await self._index.payload(command_id)
        if found is None:
            await self._indexed.get()
            found = await self._index.payload(command_id)
        return None if found is None else decode_command(found)

    def doubt(self, command_ids: Iterable[str]) -> None:
        """Remember that a put has failed that may have arrived: only the topic knows."""
        self._uncertain.update(dict.fromkeys(command_ids))
        while len(self._uncertain) > UNCERTAIN_MAX:
            self._uncertain.popitem(last=False)

    async def wait_for_index(self) -> None:
        """Wait until the index holds all that was on the topic when this was called.

        Raises:
            Unavailable: it did not in time.
        """
        await self._indexed.get()

    async def close(self) -> None:
        """Wait until nothing is asked any more."""
        await self._digests.close()
        await self._indexed.close()

    def _waiting(self, command_id: str) -> bytes | None:
        return None if self._window is None else self._window.payload(command_id)

    async def _wait_for_index(self, _: frozenset[str]) -> None:
        ends, pause_s = await self._ask_ends(), INDEX_POLL_S
        # Not `asyncio.timeout`: pymongo may swallow the cancellation that it works by.
        deadline_s = time.monotonic() + INDEX_TIMEOUT_S
        while True:
            indexed = await self._index.next_offsets()
            if all(indexed.get(number, 0) >= end for number, end in ends.items()):
                return
            if time.monotonic() >= deadline_s:
                raise Unavailable(
                    "the index of commands is behind their topic: the state service, which "
                    "fills it, is not running, or is slow"
                )
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, INDEX_POLL_MAX_S)
