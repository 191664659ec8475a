"""Runs the sandbox as a child process, for tests, benchmarks and the demo."""

from __future__ import annotations

import json
import selectors
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Final

LOOPBACK: Final = "127.0.0.1"
START_TIMEOUT_S: Final = 20.0
STOP_TIMEOUT_S: Final = 10.0


class SandboxProcess:
    """A running sandbox; use it as a context manager.

    It ends with the process that started it, however that ends. A Ctrl-C in the terminal is
    not for it: who calls its services may still have something to finish.

    Args:
        data: directory of the ledger, which outlives the process.
        port: 0 takes a free one.
        host: address to listen on.

    Raises:
        RuntimeError: it did not say that it listens within `START_TIMEOUT_S`.
    """

    def __init__(self, data: Path, port: int = 0, host: str = LOOPBACK) -> None:
        command = [sys.executable, "-m", "orchx.sandbox", "--port", str(port), "--data", str(data)]
        self.process = subprocess.Popen(
            [*command, "--host", host, "--until-stdin-ends"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            process_group=0,
        )
        self.url = self._announced_url()

    def stop(self) -> int:
        """End the process with SIGTERM and return its exit status."""
        self.process.terminate()
        return self._ended()

    def kill(self) -> int:
        """End the process with SIGKILL, as a crash would, and return its exit status."""
        self.process.kill()
        return self._ended()

    def __enter__(self) -> SandboxProcess:
        return self

    def __exit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def _ended(self) -> int:
        try:
            return self.process.wait(STOP_TIMEOUT_S)
        finally:
            for pipe in (self.process.stdin, self.process.stdout):
                if pipe is not None:
                    pipe.close()

    def _announced_url(self) -> str:
        line = b""
        if (output := self.process.stdout) is not None:
            with selectors.DefaultSelector() as selector:
                selector.register(output, selectors.EVENT_READ)
                line = output.readline() if selector.select(START_TIMEOUT_S) else b""
        if not line:
            self.kill()
            raise RuntimeError(f"The sandbox did not start within {START_TIMEOUT_S:.0f} s.")
        url: str = json.loads(line)["url"]
        return url
