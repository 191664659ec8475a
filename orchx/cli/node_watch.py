"""Noticing that the Ray node of this process has died: a driver stays then, with no worker left."""

from __future__ import annotations

import threading
from typing import Final

import ray

from orchx.actors.ray_session import is_node_alive

CHECK_S: Final = 1.0


class NodeWatch:
    """Looks every second, in a thread: Ray may take long to answer. Sets `stop` if it is so."""

    def __init__(self, stop: threading.Event) -> None:
        self.lost = False
        self._stop = stop
        threading.Thread(target=self._run, name="node-watch", daemon=True).start()

    def _run(self) -> None:
        while not self._stop.wait(CHECK_S):
            try:
                self.lost = not is_node_alive()
            except (RuntimeError, ConnectionError, ray.exceptions.RayError):
                continue  # not known now: what keeps the cluster together may come back
            if self.lost:
                self._stop.set()
