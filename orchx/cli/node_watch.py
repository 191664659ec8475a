"""Noticing that the Ray node of this process has died: a driver stays then, with no worker left."""

from __future__ import annotations

import socket
import threading
from pathlib import Path
from typing import Final

CHECK_S: Final = 1.0


class NodeWatch:
    """Sets `stop` once nobody listens at the raylet's socket any more.

    It holds a connection there, in a thread, so it hears of the raylet's death soon and from
    the kernel: what keeps the cluster together may have died with it, and would not answer.
    A raylet that is frozen, or that nobody else can reach, still listens.
    """

    def __init__(self, raylet: Path, stop: threading.Event) -> None:
        self.lost = False
        self._raylet = raylet
        self._stop = stop
        threading.Thread(target=self._run, name="node-watch", daemon=True).start()

    def _run(self) -> None:
        while True:
            try:
                self._hold()
            except (ConnectionRefusedError, FileNotFoundError):
                self.lost = True
                self._stop.set()
                return
            except OSError:
                pass  # not known now
            if self._stop.wait(CHECK_S):
                return

    def _hold(self) -> None:
        """Return when the raylet has closed the connection."""
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(str(self._raylet))
            while connection.recv(1024):
                pass
