"""One child process of the sandbox, seen from the engine: start, ask with a deadline, kill."""

from __future__ import annotations

import contextlib
import os
import select
import struct
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import jq

from orchx.adapters import sandbox_child
from orchx.errors import DriverError

HEADER_BYTES: Final = 5
CHUNK_BYTES: Final = 1 << 18


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluatorLimits:
    """What one evaluation may use, and how large the pool is.

    `wall_ms` bounds an evaluation as the engine sees it, `cpu_s` is the backstop that the
    kernel keeps if the engine is gone, `memory_bytes` the child's address space (some
    16 MiB are Python's own). Data over `in_process_bytes` makes even a bounded expression
    go to a child. A child is replaced after `evaluations_per_child`.
    """

    children: int = 2
    wall_ms: int = 500
    cpu_s: int = 2
    memory_bytes: int = 256 * 1024 * 1024
    input_bytes: int = 16 * 1024 * 1024
    output_bytes: int = 1024 * 1024
    in_process_bytes: int = 16 * 1024
    wait_ms: int = 5_000
    start_ms: int = 10_000
    evaluations_per_child: int = 10_000


class ChildTimeout(Exception):
    """The child did not answer in time; it is still running."""


class ChildEnded(Exception):
    """The child is gone. `exit_code` is negative for a signal, as in `subprocess`."""

    def __init__(self, exit_code: int) -> None:
        super().__init__(f"the sandbox child ended with {exit_code}")
        self.exit_code = exit_code


class SandboxProcess:
    """A running child. Used by one thread at a time.

    Nothing is inherited but the two pipes: no environment, no other descriptors. The child
    ends when its stdin closes, so it does not outlive its parent by more than `cpu_s`.
    (PR_SET_PDEATHSIG would kill it when the *thread* that started it ends.)
    """

    def __init__(self, limits: EvaluatorLimits) -> None:
        """Start the child and wait until it can work.

        Raises:
            DriverError: it cannot be started, or is not ready within `start_ms`.
        """
        command = [
            sys.executable,
            "-I",
            "-S",
            str(Path(sandbox_child.__file__)),
            str(Path(jq.__file__).parent),
            *(str(n) for n in (limits.memory_bytes, limits.output_bytes, limits.cpu_s)),
        ]
        try:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                bufsize=0,
                close_fds=True,
                env={},
                cwd="/",
            )
        except OSError as error:
            raise DriverError("the sandbox child does not start") from error
        self.evaluations = 0
        stdin, stdout = self._process.stdin, self._process.stdout
        if stdin is None or stdout is None:
            raise DriverError("the sandbox child has no pipes")
        self._to, self._from = stdin.fileno(), stdout.fileno()
        os.set_blocking(self._to, False)
        os.set_blocking(self._from, False)
        try:
            self._receive(HEADER_BYTES, _deadline(limits.start_ms))
        except (ChildTimeout, ChildEnded) as error:
            self.kill()
            raise DriverError("the sandbox child does not start") from error

    @property
    def pid(self) -> int:
        """The child's process id."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Tell whether the child has not ended, as far as is known."""
        return self._process.poll() is None

    def ask(self, program: bytes, data: bytes, wall_ms: int) -> tuple[bytes, bytes]:
        """Run a program and return the status byte and the payload (see `sandbox_child`).

        Raises:
            ChildTimeout: no whole reply within `wall_ms`; the child must be killed.
            ChildEnded: the child ended.
        """
        deadline = _deadline(wall_ms)
        self.evaluations += 1
        request = b"".join(
            [struct.pack(">I", len(program)), program, struct.pack(">I", len(data)), data]
        )
        self._send(request, deadline)
        header = self._receive(HEADER_BYTES, deadline)
        status, size = header[:1], struct.unpack(">I", header[1:])[0]
        return status, self._receive(size, deadline)

    def kill(self) -> int:
        """End the child at once and return its exit code. Harmless if it has ended."""
        self._process.kill()
        code = self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()
        return code

    def _send(self, request: bytes, deadline: float) -> None:
        left = memoryview(request)
        while left:
            try:
                left = left[os.write(self._to, left[:CHUNK_BYTES]) :]
            except BlockingIOError:
                _wait(self._to, select.POLLOUT, deadline)
            except BrokenPipeError:
                raise ChildEnded(self.kill_if_closed()) from None

    def _receive(self, size: int, deadline: float) -> bytes:
        got = bytearray()
        while len(got) < size:
            try:
                piece = os.read(self._from, min(size - len(got), CHUNK_BYTES))
            except BlockingIOError:
                _wait(self._from, select.POLLIN, deadline)
                continue
            if not piece:
                raise ChildEnded(self.kill_if_closed())
            got += piece
        return bytes(got)

    def kill_if_closed(self) -> int:
        """Return the exit code of a child that has closed its pipes, and so is ending."""
        try:
            return self._process.wait(timeout=1.0)
        except subprocess.TimeoutExpired:
            return self.kill()


def _deadline(after_ms: int) -> float:
    return time.monotonic() + after_ms / 1000


def _wait(descriptor: int, events: int, deadline: float) -> None:
    left_s = deadline - time.monotonic()
    poller = select.poll()
    poller.register(descriptor, events)
    if left_s <= 0 or not poller.poll(left_s * 1000):
        raise ChildTimeout
