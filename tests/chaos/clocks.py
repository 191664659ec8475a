"""A wall clock that can be set while the processes run that look at it.

The kernel has time namespaces for the monotonic clock only, and libfaketime cannot leave that one
alone (Python's `time.sleep` fails under it). So a small library of our own, `wall_clock.c`,
stands before the C library's calls and adds what a file says.
"""

from __future__ import annotations

import struct
from pathlib import Path

from tests.chaos.commands import output_of

_SOURCE = Path(__file__).with_name("wall_clock.c")
_NUMBER = struct.Struct("=q")


class Clock:
    """One machine's wall clock, kept in a file."""

    def __init__(self, file: Path, library: Path) -> None:
        self._file = file
        self._library = library
        file.write_bytes(_NUMBER.pack(0))

    def set(self, ahead_s: int) -> None:
        """Put it so many seconds ahead of the true one, or behind, at once."""
        with self._file.open("r+b", buffering=0) as file:  # in place: the processes have it mapped
            file.write(_NUMBER.pack(ahead_s))

    def prefix(self) -> tuple[str, ...]:
        """Return what has to stand before a command so that it goes by this clock."""
        return ("env", f"LD_PRELOAD={self._library}", f"ORCHX_CHAOS_CLOCK={self._file}")


def compile_library(folder: Path) -> Path:
    """Compile the library into a folder.

    Raises:
        RuntimeError: the compiler complains.
    """
    library = folder / "wall_clock.so"
    options = ("-O2", "-Wall", "-Werror", "-shared", "-fPIC")
    output_of(("cc", *options, "-o", str(library), str(_SOURCE), "-ldl", "-lpthread"))
    return library
