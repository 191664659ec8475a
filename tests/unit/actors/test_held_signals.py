"""Signals that come while Ray starts are kept for later, whatever Ray does with them."""

from __future__ import annotations

import importlib
import signal
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from orchx.actors import held_signals as module
from orchx.actors.held_signals import held_signals

ray_utils: Any = importlib.import_module("ray._private.utils")


@pytest.fixture
def got() -> Iterator[list[int]]:
    """What the process's own handlers get."""
    got: list[int] = []
    before = {n: signal.signal(n, lambda number, _: got.append(number)) for n in module.HELD}
    yield got
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", module.HELD)
def test_a_signal_comes_when_ray_has_started(got: list[int], number: int) -> None:
    with held_signals():
        ray_utils.set_sigterm_handler(lambda *_: sys.exit(15))  # as ray.init does
        signal.raise_signal(number)
        assert got == []
    assert got == [number]
    signal.raise_signal(signal.SIGTERM)
    assert got == [number, signal.SIGTERM], "the handler is what it was"


def test_the_second_signal_is_not_held_back(got: list[int]) -> None:
    def start() -> None:
        with held_signals():
            signal.raise_signal(signal.SIGTERM)
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        start()
    signal.raise_signal(signal.SIGTERM)
    assert got == [signal.SIGTERM], "the handler is what it was"


def test_ray_is_left_as_it_was(got: list[int]) -> None:
    setter = ray_utils.set_sigterm_handler
    with held_signals():
        pass
    assert ray_utils.set_sigterm_handler is setter


def test_off_the_main_thread_nothing_is_held(got: list[int]) -> None:
    failures: list[BaseException] = []

    def run() -> None:
        try:
            with held_signals():
                pass
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert failures == []
