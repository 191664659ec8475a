"""Runs cpu functions in a thread of this process: for tests, and where there is no Ray."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class InProcessCpuExecutor:
    """A `CpuExecutor` that encodes and decodes like the real ones, without their processes.

    Args:
        run_encoded: runs the function of a name with an encoded call, and returns its encoded
            answer: `orchx.adapters.function_calls.run_encoded` of a registry.
    """

    def __init__(self, run_encoded: Callable[[str, bytes], bytes]) -> None:
        self._run_encoded = run_encoded

    async def run(self, name: str, request: bytes) -> bytes:
        """Run a function in a thread and return its encoded answer."""
        return await asyncio.to_thread(self._run_encoded, name, request)
