"""What is kept of commands that could not be sent: never more than there is room for."""

from __future__ import annotations

import msgspec

from orchx.engine.unsent_commands import UnsentCommands
from tests.unit.engine.dispatching import cancel, event, start


def test_what_is_kept_comes_back_in_order_and_once() -> None:
    unsent = UnsentCommands()
    unsent.keep([start("a"), cancel("c", "a")])
    unsent.keep([start("b")])
    assert unsent.take() == [start("a"), cancel("c", "a"), start("b")]
    assert unsent.take() == []


def test_no_more_are_kept_than_may_be() -> None:
    unsent = UnsentCommands(max_commands=2)
    unsent.keep([start(f"w{number}") for number in range(5)])
    assert unsent.dropped == 3
    assert [command.id for command in unsent.take()] == ["w0", "w1"]


def test_no_more_bytes_are_kept_than_may_be_and_nothing_overtakes_what_was_dropped() -> None:
    large = event("e" * 1_000)
    size = len(msgspec.msgpack.encode(large))
    unsent = UnsentCommands(max_bytes=2 * size)
    unsent.keep([large, large, start("a"), cancel("c", "a")])
    unsent.keep([cancel("d", "a")])
    assert unsent.dropped == 3
    assert unsent.take() == [large, large]
    unsent.keep([start("a")])  # there is room again
    assert (unsent.take(), unsent.dropped) == ([start("a")], 0)
