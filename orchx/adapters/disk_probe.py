"""Whether the data folder could take a request."""

from __future__ import annotations

import asyncio
import os
import shutil
from pathlib import Path
from typing import Final

from orchx.errors import DriverError, StorageFull

FREE_BYTES_MIN: Final = 16 * 1_048_576  # a request at its largest, in queue and log, and their WAL


class DiskProbe:
    """A `Probe`: the folder can be written, and there is room."""

    def __init__(self, folder: Path) -> None:
        """Look at the file system that holds `folder`."""
        self._folder = folder

    async def check(self) -> None:
        """Return if there is room; in a thread, for a file system may hang.

        Raises:
            StorageFull: there is not.
            DriverError: the folder is gone, or cannot be written.
        """
        await asyncio.to_thread(self._look)

    async def close(self) -> None:
        """Do nothing: there is nothing open."""

    def _look(self) -> None:
        try:
            free_bytes = shutil.disk_usage(self._folder).free
        except OSError as error:
            raise DriverError(f"the data folder {self._folder}: {error.strerror}") from error
        if not os.access(self._folder, os.W_OK):
            raise DriverError(f"the data folder {self._folder} (ORCHX_DATA_DIR) is read-only")
        if free_bytes < FREE_BYTES_MIN:
            raise StorageFull(
                f"the disk of {self._folder} (ORCHX_DATA_DIR) has {free_bytes} bytes left; "
                f"{FREE_BYTES_MIN} are needed"
            )
