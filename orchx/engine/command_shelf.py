"""The commands that the Dispatcher holds: as many as its memory may take, the rest by id.

All of them are durable in the command queue. What is over the budget is known by its id
alone and read from there when it is wanted.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from orchx.domain.messages import AnyCommand
from orchx.ports.command_queue import CommandQueue

PART_BYTES: Final = 8 * 1_048_576

_encode = msgspec.msgpack.Encoder().encode


def weight_of(command: AnyCommand) -> int:
    """Return about how many bytes of memory a command takes: those of its encoded form."""
    return len(_encode(command))


class CommandShelf:
    """Commands by id, and what they weigh.

    Args:
        queue: has all of them.
        limit_bytes: how much may be kept here.
    """

    def __init__(self, queue: CommandQueue, limit_bytes: int) -> None:
        self._queue = queue
        self._limit_bytes = limit_bytes
        self._commands: dict[str, AnyCommand] = {}
        self._weights: dict[str, int] = {}
        self.bytes = 0

    def put(self, command: AnyCommand, weight: int) -> None:
        """Keep a command, if there is room for it."""
        if self.bytes + weight <= self._limit_bytes:
            self._commands[command.id] = command
            self._weights[command.id] = weight
            self.bytes += weight

    def drop(self, command_id: str) -> None:
        """Forget a command."""
        if self._commands.pop(command_id, None) is not None:
            self.bytes -= self._weights.pop(command_id)

    def all_of(self, command_ids: Sequence[str]) -> list[AnyCommand] | None:
        """Return these commands in order; None, if one of them has to be fetched."""
        found = [self._commands.get(command_id) for command_id in command_ids]
        held = [command for command in found if command is not None]
        return held if len(held) == len(found) else None

    async def fetch(self, command_ids: Sequence[str]) -> tuple[list[AnyCommand], list[str]]:
        """Return the first of these commands, in order, as many as fit into one part.

        Those that are not here come from the queue. The second list has the ids, among those
        looked at, that the queue does not know either.

        Raises:
            OrchxError: the queue cannot be read now.
        """
        found: list[AnyCommand] = []
        missing: list[str] = []
        size = 0
        for command_id in command_ids:
            command = self._commands.get(command_id) or await self._queue.find(command_id)
            if command is None:
                missing.append(command_id)
                continue
            found.append(command)
            size += weight_of(command)
            if size >= PART_BYTES:
                break
        return found, missing
