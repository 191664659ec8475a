"""Where Python functions run that would hold up an event loop."""

from __future__ import annotations

from typing import Protocol


class CpuExecutor(Protocol):
    """Runs registered cpu functions elsewhere: another process, another machine."""

    async def run(self, name: str, request: bytes) -> bytes:
        """Run the function `name` and return its encoded answer.

        Args:
            name: as it was registered with `@orchx.task`.
            request: an encoded `FunctionCall`.

        Returns:
            an encoded `FunctionAnswer`; what the function raised is in there.

        Raises:
            Unavailable: no worker could be had, or it died.
        """
        ...
