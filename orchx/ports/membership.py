"""Which partitions of the command queue this engine serves.

The engines of one installation share them; each workflow is with the engine that holds its
partition. An engine that dies, or cannot be reached, loses its partitions to the others after
a while. Whoever has lost one may not know it yet: the log's epochs fence its owners, not this.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import NoReturn, Protocol

from orchx.domain.messages import AnyCommand


class PartitionHolder(Protocol):
    """Is told which partitions are this engine's."""

    def given(self, partitions: Collection[int]) -> None:
        """Have these served as soon as may be, besides those that are."""
        ...

    async def give_up(self, partitions: Collection[int]) -> None:
        """Serve these no more, be they served yet or not; on return another engine may.

        It may also be told of what another engine has taken already.
        """
        ...


class Membership(Protocol):
    """This engine's place among the engines of the installation."""

    @property
    def count(self) -> int:
        """How many partitions there are; known from `joined` on."""
        ...

    async def run(self, holder: PartitionHolder) -> NoReturn:
        """Take part, and have the holder told of every change; for ever.

        Raises:
            Bug: this process cannot do its work any more, another is to.
        """
        ...

    async def joined(self) -> None:
        """Return once the holder was told what is this engine's at first, which may be nothing."""
        ...

    async def leave(self) -> None:
        """Have everything given up in good order, at once, for others to take."""
        ...

    def partition_of(self, command: AnyCommand) -> int:
        """Return the partition that a command is in."""
        ...

    def partition_of_workflow(self, workflow_id: str) -> int:
        """Return the partition that a workflow's commands, and its records, are in."""
        ...
