"""What is needed of a server to start it and to know that it answers."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

_MAX_REASON_LINES = 3


class UnobtainableError(Exception):
    """A server cannot be had on this machine; the message says why, in a line."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """How a server is started, when all that it needs is in place."""

    description: str  # "Redis 8.2.3"
    command: tuple[str, ...]


class Server(Protocol):
    """One server: who it is, where it will be, and how to tell that it works."""

    @property
    def name(self) -> str:
        """The name of its folder, pid file and log."""

    @property
    def port(self) -> int:
        """The port that clients connect to."""

    @property
    def variable(self) -> str:
        """The environment variable that tells the tests where it is."""

    @property
    def address(self) -> str:
        """The variable's value."""

    def prepare(self, folder: Path) -> Launch:
        """Get the program, and write into the folder what it needs before it starts.

        Raises:
            UnobtainableError: it cannot be had.
        """

    def is_ready(self) -> bool:
        """Tell whether it does its work, not only listens. Takes a few seconds at most."""


def output_of(command: Sequence[str | Path], *, timeout_s: float) -> str:
    """Run a program to its end and return what it printed, errors included.

    Raises:
        UnobtainableError: it cannot be run, failed, or took too long; the message has what it
            complained of.
    """
    shown = Path(command[0]).name
    try:
        done = subprocess.run(
            command,
            check=False,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=timeout_s,
        )
    except OSError as error:
        raise UnobtainableError(f"{shown} does not run: {error}") from error
    except subprocess.TimeoutExpired as error:
        raise UnobtainableError(f"{shown} did not end within {timeout_s:.0f} s") from error
    if done.returncode != 0:
        raise UnobtainableError(
            f"{shown} failed ({done.returncode}): {complaint(done.stdout) or 'without a word'}"
        )
    return done.stdout


def complaint(text: str) -> str:
    """Return the first line that speaks of an error (more tend to follow from it), or the end."""
    lines = (line.strip() for line in text.splitlines())
    return next((line for line in lines if "error" in line.lower()), last_words(text))


def last_words(text: str) -> str:
    """Return the last lines of a program's output as one line."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return " | ".join(lines[-_MAX_REASON_LINES:])
