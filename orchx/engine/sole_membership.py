"""The membership of an engine that has its stores to itself: it serves everything."""

from __future__ import annotations

import asyncio
from typing import NoReturn

from orchx.domain.messages import AnyCommand
from orchx.errors import Bug
from orchx.ports.membership import PartitionHolder


class SoleMembership:
    """A `Membership` of one, whose queue has one partition."""

    count = 1

    def __init__(self) -> None:
        """Hold nothing before `run`."""
        self._joined = asyncio.Event()

    async def run(self, holder: PartitionHolder) -> NoReturn:
        """Have everything served."""
        holder.given([0])
        self._joined.set()
        await asyncio.Event().wait()  # nobody else comes
        raise Bug("nobody sets this event")

    async def joined(self) -> None:
        """Return once the holder knows."""
        await self._joined.wait()

    async def leave(self) -> None:
        """Do nothing: there is nobody to take over."""

    def partition_of(self, command: AnyCommand) -> int:
        """Return 0."""
        return 0

    def partition_of_workflow(self, workflow_id: str) -> int:
        """Return 0."""
        return 0
