"""Commands that the Dispatcher could not be given, within bounds."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import msgspec

from orchx.domain.messages import AnyCommand

MAX_COMMANDS: Final = 100_000
MAX_BYTES: Final = 64 * 1_048_576

_encode: Final = msgspec.msgpack.Encoder().encode


class UnsentCommands:
    """Keeps commands, oldest first, until they can be sent; what is too much is dropped.

    They are durable: the Dispatcher finds those that were dropped in the queue. After one that
    was dropped nothing is kept, so that none overtakes another of its workflow.
    """

    def __init__(self, *, max_commands: int = MAX_COMMANDS, max_bytes: int = MAX_BYTES) -> None:
        self._max_commands = max_commands
        self._max_bytes = max_bytes
        self._kept: list[AnyCommand] = []
        self._kept_bytes = 0
        self.dropped = 0
        """How many were dropped since the last `take`."""

    def keep(self, commands: Iterable[AnyCommand]) -> None:
        """Keep as many of these as there is room for."""
        for command in commands:
            size = 0 if self.dropped else len(_encode(command))
            if (
                self.dropped
                or len(self._kept) >= self._max_commands
                or self._kept_bytes + size > self._max_bytes
            ):
                self.dropped += 1
                continue
            self._kept.append(command)
            self._kept_bytes += size

    def take(self) -> list[AnyCommand]:
        """Return what is kept, and keep nothing."""
        kept, self._kept = self._kept, []
        self._kept_bytes = self.dropped = 0
        return kept
