"""The commands that this process knows to be on the topic, until the index surely has them."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

RECENT_COUNT_MAX: Final = 20_000
RECENT_BYTES_MAX: Final = 32 * 1_048_576
RECENT_AGE_S: Final = 600.0  # far more than the index may lag, far less than ids are kept


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownCommand:
    """A durable command: its JSON, what tells a repetition, and where it stands."""

    id: str
    digest: str
    payload: bytes
    created_at_ms: int
    partition: int
    offset: int


class RecentCommands:
    """The latest commands, bounded in number, bytes and age.

    One is shared by the queue and the indexer of a process, where it has both: what the
    indexer has read is then known before the index has it.
    """

    def __init__(self, now_s: Callable[[], float] = time.monotonic) -> None:
        """Start empty; `now_s` is a clock that never goes back."""
        self._now_s = now_s
        self._known: OrderedDict[str, tuple[float, KnownCommand]] = OrderedDict()
        self._bytes = 0

    def note(self, command: KnownCommand) -> None:
        """Remember a durable command; the first one with an id counts."""
        if self.get(command.id) is not None:
            return
        self._known[command.id] = self._now_s(), command
        self._bytes += len(command.payload)
        while len(self._known) > RECENT_COUNT_MAX or self._bytes > RECENT_BYTES_MAX:
            self._drop(next(iter(self._known)))

    def get(self, command_id: str) -> KnownCommand | None:
        """Return a command that was noted of late."""
        entry = self._known.get(command_id)
        if entry is None:
            return None
        noted_at_s, command = entry
        if self._now_s() - noted_at_s > RECENT_AGE_S:
            self._drop(command_id)
            return None
        return command

    def forget(self, *, older_than_ms: int, below: Mapping[int, int]) -> None:
        """Forget what was created before this time and stands below its partition's offset."""
        old = [
            command.id
            for _, command in self._known.values()
            if command.created_at_ms < older_than_ms
            and command.offset < below.get(command.partition, 0)
        ]
        for command_id in old:
            self._drop(command_id)

    def _drop(self, command_id: str) -> None:
        _, command = self._known.pop(command_id)
        self._bytes -= len(command.payload)
