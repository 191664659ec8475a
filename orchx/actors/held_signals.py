"""SIGINT and SIGTERM while Ray starts: Ray half started leaves processes behind."""

from __future__ import annotations

import importlib
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, Final

HELD: Final = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def held_signals() -> Iterator[None]:
    """Hold SIGINT and SIGTERM back until the end, and leave their handlers as they were.

    The second signal is not held back. Off the main thread, which gets no signals, this does
    nothing.

    Raises:
        KeyboardInterrupt: inside, at the second signal.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    got: list[int] = []

    def hold(number: int, frame: FrameType | None) -> None:
        if got:
            raise KeyboardInterrupt
        got.append(number)

    before = {number: signal.signal(number, hold) for number in HELD}
    # Ray's own handlers of SIGTERM would end the process wherever it stands.
    ray: Any = importlib.import_module("ray._private.utils")
    set_rays_own, ray.set_sigterm_handler = ray.set_sigterm_handler, lambda handler: None
    try:
        yield
    finally:
        ray.set_sigterm_handler = set_rays_own
        for number, handler in before.items():
            signal.signal(number, handler)
    for held in got:
        signal.raise_signal(held)
