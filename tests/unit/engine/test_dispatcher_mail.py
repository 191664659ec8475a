"""What one process sends to the Dispatcher while that cannot take it, and after."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest

from orchx.domain.messages import AnyCommand
from orchx.engine import unsent_commands
from orchx.engine.endings import RETRY_PAUSE_S, DispatcherMail
from orchx.engine.unsent_commands import UnsentCommands
from orchx.errors import Unavailable
from orchx.ports.supervision import Ending, Load
from orchx.testing.virtual_clock import VirtualClock
from tests.unit.engine.dispatching import cancel, start


@dataclass
class Link:
    """A Dispatcher that refuses everything, only what is not empty, or nothing."""

    clock: VirtualClock
    recovering: bool = False
    choking: bool = False
    offers: list[tuple[list[str], list[str]]] = field(default_factory=list)

    async def offer(
        self, commands: Sequence[AnyCommand], *, watcher: str, watched: Sequence[str]
    ) -> Load:
        self.offers.append(([command.id for command in commands], list(watched)))
        if self.recovering or (self.choking and commands):
            raise Unavailable("recovering")
        return Load(waiting=len(self.offers), by_tenant={}, running=0)

    async def watch(self, watcher: str, workflow_ids: Sequence[str]) -> Sequence[str]:
        return []

    async def endings(self, watcher: str, timeout_s: float) -> Sequence[Ending]:
        await self.clock.sleep(timeout_s)
        return []

    def taken(self) -> list[tuple[list[str], list[str]]]:
        """Return the offers since the last call."""
        taken, self.offers = self.offers, []
        return taken


@pytest.fixture
def link() -> Link:
    return Link(VirtualClock())


@pytest.fixture
def mail(link: Link) -> DispatcherMail:
    return DispatcherMail(link, "w", link.clock)


async def test_while_the_dispatcher_recovers_it_is_asked_with_empty_hands(
    link: Link, mail: DispatcherMail
) -> None:
    link.recovering = True
    mail.offer([start("a")])
    await link.clock.advance(0)
    assert (mail.reachable, link.taken()) == (False, [(["a"], [])])
    for number in range(3):
        mail.offer([start(f"b{number}")])
        await link.clock.advance(RETRY_PAUSE_S)
    assert link.taken() == [([], [])] * 3
    link.recovering = False
    await link.clock.advance(RETRY_PAUSE_S)
    assert link.taken() == [([], []), (["a", "b0", "b1", "b2"], [])]
    assert mail.reachable
    mail.offer([start("c")])
    await link.clock.advance(0)
    assert link.taken() == [(["c"], [])]


async def test_who_is_waited_for_is_told_with_the_commands_and_forgotten_with_the_waiter(
    link: Link, mail: DispatcherMail
) -> None:
    link.recovering = True
    mail.offer([start("a"), start("b")])
    mail.expect("a")
    given_up = mail.expect("b")
    await link.clock.advance(0)
    mail.forget("b", given_up)
    mail.expect("c")
    await link.clock.advance(RETRY_PAUSE_S)
    link.taken()
    link.recovering = False
    await link.clock.advance(RETRY_PAUSE_S)
    assert link.taken()[1] == (["a", "b"], ["a", "c"])


async def test_what_the_dispatcher_refuses_again_is_left_to_the_queue(
    link: Link, mail: DispatcherMail
) -> None:
    link.choking = True
    mail.offer([start("a")])
    mail.expect("a")
    await link.clock.advance(RETRY_PAUSE_S)
    assert link.taken() == [(["a"], ["a"]), ([], []), (["a"], ["a"])]
    mail.offer([cancel("c", "a")])
    await link.clock.advance(0)
    assert not mail.reachable
    link.choking = False
    await link.clock.advance(RETRY_PAUSE_S)
    assert link.taken()[:2] == [([], []), (["c"], ["a"])]
    assert mail.reachable


async def test_no_more_is_kept_than_there_is_room_for(link: Link, mail: DispatcherMail) -> None:
    mail._unsent = UnsentCommands(max_commands=2)
    assert (unsent_commands.MAX_COMMANDS, unsent_commands.MAX_BYTES) == (100_000, 64 * 1_048_576)
    link.recovering = True
    for number in range(5):
        mail.offer([start(f"w{number}")])
        await link.clock.advance(0)
    mail.expect("w4")
    await link.clock.advance(0)
    link.taken()
    link.recovering = False
    await link.clock.advance(RETRY_PAUSE_S)
    assert link.taken()[1] == (["w0", "w1"], ["w4"])


async def test_the_load_is_not_asked_for_while_nobody_answers(
    link: Link, mail: DispatcherMail
) -> None:
    link.recovering = True
    await mail.refresh()
    link.taken()
    await mail.refresh()
    assert link.taken() == []
    link.recovering = False
    await link.clock.advance(RETRY_PAUSE_S)
    assert mail.load.waiting > 0
