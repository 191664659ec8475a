"""Asking a server, or a disk, whether it could take a request now."""

from __future__ import annotations

from typing import Protocol


class Probe(Protocol):
    """Looks, and writes nothing. Whoever asks bounds the time, and asks one at a time."""

    async def check(self) -> None:
        """Return if what is looked at does its work.

        Raises:
            DriverError, StorageFull, TryLater: it does not; why, and which setting to look at.
        """
        ...

    async def close(self) -> None:
        """Let go of connections of its own."""
        ...
