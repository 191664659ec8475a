"""Commands, durable before anyone is told that they were accepted."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from orchx.domain.messages import AnyCommand


@dataclass(frozen=True, slots=True, kw_only=True)
class Accepted:
    """What became of one offered command. `duplicate`: the same id was there before."""

    command_id: str
    duplicate: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Backlog:
    """How many commands wait, in all and per tenant."""

    total: int
    by_tenant: dict[str, int]


Known: TypeAlias = Callable[[str], bool]
"""Says of a command's id whether whoever asks has the command already."""


class CommandQueue(Protocol):
    """A durable queue with at-least-once delivery and ids that are remembered.

    Its partitions are those of the event log. Who takes commands off it says of which.
    """

    async def put(self, commands: Sequence[AnyCommand]) -> Sequence[Accepted]:
        """Store commands; on return they are durable. A known id is not stored again.

        Raises:
            Conflict: a known id came with another content (first such command is named);
                nothing of this call was stored.
            StorageFull, DriverError: nothing was stored.
        """
        ...

    async def pending(self, *, after_position: int, limit: int) -> Sequence[tuple[int, AnyCommand]]:
        """Return commands not yet acknowledged, oldest first, each with its position.

        A page may be shorter than `limit` although there are more, for pages are bounded in
        bytes too. Only an empty one is the end. One that this release cannot read is left out,
        with a line in the log: it must not stand before the others.
        """
        ...

    async def hold(self, partitions: Collection[int]) -> None:
        """Take commands of these partitions from now on, and of no others.

        What was acknowledged of those that are given up by this is durable on return, if the
        queue can be reached. A queue of one partition is held from the start.

        Raises:
            DriverError, Unavailable: what is new could not be taken on; to be called again.
        """
        ...

    async def arrivals(
        self, *, after_position: int, known: Known
    ) -> tuple[int, Sequence[AnyCommand]]:
        """Wait for commands that other processes have put; return them, and a position.

        Return those of the partitions held behind `after_position` that are not `known`, when
        there are any, and after a second or so anyway. A queue whose every `put` is followed
        by an offer to the one Dispatcher there is never has any.
        """
        ...

    async def find(self, command_id: str) -> AnyCommand | None:
        """Return a command, acknowledged or not, unless it was pruned.

        One whose `put` has returned, in whichever process, is found.

        Raises:
            TryLater, DriverError: whether there is one cannot be told now, or it cannot be read.
        """
        ...

    async def acknowledge(self, command_ids: Sequence[str]) -> None:
        """Mark commands as applied. May be lost in a crash: they are then delivered again."""
        ...

    async def backlog(self) -> Backlog:
        """Count what is not acknowledged."""
        ...

    async def prune(self, *, older_than_ms: int) -> int:
        """Forget acknowledged commands accepted before this time; return how many."""
        ...

    async def pruned_before_ms(self) -> int:
        """Return the latest time that `prune` was called with; 0 if it never was.

        An id that is unknown may be one of a command accepted before, and applied.
        """
        ...

    async def close(self) -> None:
        """Let go of the files."""
        ...
