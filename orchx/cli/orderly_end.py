"""Ending a server that is up, or half up: nothing of it is left behind."""

from __future__ import annotations

import io
import signal
import threading
from contextlib import redirect_stdout
from typing import Final

import ray

from orchx.serve.server import stop_server
from orchx.settings import Settings

ENDING: Final = (signal.SIGINT, signal.SIGTERM)


class EndingSignals:
    """Takes SIGINT and SIGTERM from its making on; `stop` is set once one has come.

    Until `is_up` is set, it also raises KeyboardInterrupt, which ends the start: the one
    exception that passes through Ray's calls as it is.
    """

    def __init__(self) -> None:
        self.stop = threading.Event()
        self.is_up = False
        self._number: int = signal.SIGINT
        for number in ENDING:
            signal.signal(number, self._handle)

    @property
    def exit_code(self) -> int:
        """The exit code of whom such a signal ends, as shells have it."""
        return 128 + self._number

    def _handle(self, number: int, frame: object) -> None:
        self._number = number
        self.stop.set()
        if not self.is_up:
            raise KeyboardInterrupt


def stop_for_good(settings: Settings) -> None:
    """Stop whatever is up; an impatient second Ctrl-C must not leave half of it behind."""
    before = {number: signal.signal(number, signal.SIG_IGN) for number in ENDING}
    try:
        if ray.is_initialized():
            # Ray prints that Serve's controller, which ends itself, has ended.
            with redirect_stdout(io.StringIO()):
                stop_server(settings)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
