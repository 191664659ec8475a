"""Who is found frozen, and who is only starting, dead or slow."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from orchx.engine.watchdog import Watchdog
from orchx.errors import NoAnswer, Unavailable
from orchx.testing.simulated_loop import SimulatedClock, SimulatedLoop

PATIENCE = 3  # questions, at one a second, of which none takes time to go unanswered
START = 8
SLEEPY = 10.0 * PATIENCE
LAST = "silent"

ANSWERS = {"silent": NoAnswer("nothing"), "dead": Unavailable("gone"), "alive": None}


class FakeProcess:
    """Answers as it is told, then stays silent; notes after which questions it is restarted."""

    def __init__(self, answers: Sequence[str], *, gone: bool = False) -> None:
        self.name = "process"
        self.asked = 0
        self.restarts: list[int] = []
        self._answers = answers
        self._gone = gone

    async def alive(self) -> None:
        answer = self._answers[self.asked] if self.asked < len(self._answers) else LAST
        self.asked += 1
        error = ANSWERS[answer]
        if error is not None:
            raise error

    async def restart(self) -> None:
        self.restarts.append(self.asked)
        if self._gone:
            raise Unavailable("nobody here")


class FrozenLink(FakeProcess):
    """Never even returns from the question."""

    async def alive(self) -> None:
        await asyncio.Event().wait()


class SleepyClock(SimulatedClock):
    """Each pause takes far longer than it should."""

    async def sleep(self, delay_s: float) -> None:
        await super().sleep(delay_s * SLEEPY)


def _watch(
    *processes: FakeProcess,
    questions: int = 12,
    clock: type[SimulatedClock] = SimulatedClock,
    pause_s: float = 1.0,
) -> None:
    loop = SimulatedLoop(lambda task, context: None)
    watchdog = Watchdog(
        processes,
        clock(loop),
        interval_s=1.0,
        patience_s=PATIENCE,
        start_s=START,
    )

    async def run() -> None:
        try:
            async with asyncio.timeout((questions + 0.5) * pause_s):
                await watchdog.run()
        except TimeoutError:
            pass

    try:
        loop.run_until_complete(run())
    finally:
        loop.close()


def _restarts(*answers: str) -> list[int]:
    process = FakeProcess(answers)
    _watch(process)
    assert process.asked == 12
    return process.restarts


def test_one_that_leaves_questions_unanswered_is_restarted_once() -> None:
    assert _restarts("alive", "alive") == [2 + PATIENCE]


def test_one_that_never_answered_has_as_long_as_a_start_may_take() -> None:
    """It may have been frozen before the watch began."""
    assert _restarts() == [START]


def test_one_that_is_known_to_be_dead_is_left_to_who_starts_it() -> None:
    assert _restarts("alive", "silent", "dead", *["silent"] * START) == [3 + START]


def test_an_answer_in_between_starts_the_count_anew() -> None:
    silences = ["silent"] * (PATIENCE - 1)
    assert _restarts("alive", *silences, "alive", *silences, "alive", *["alive"] * 5) == []


def test_one_that_answered_after_its_restart_is_watched_again() -> None:
    answers = ["alive", *["silent"] * PATIENCE, "alive"]
    assert _restarts(*answers) == [1 + PATIENCE, 2 + 2 * PATIENCE]


def test_what_the_watch_slept_through_is_nobodys_silence() -> None:
    """As after a suspend: one question that goes unanswered then is no proof of anything."""
    answers = ["alive", "silent", "alive", "silent", "alive"]
    process = FakeProcess(answers)
    _watch(process, questions=len(answers), clock=SleepyClock, pause_s=SLEEPY)
    assert process.asked == len(answers)
    assert process.restarts == []


def test_one_that_has_gone_meanwhile_does_not_end_the_watch() -> None:
    process = FakeProcess(["alive", *["silent"] * PATIENCE, "alive"], gone=True)
    _watch(process)
    assert process.restarts == [1 + PATIENCE, 2 + 2 * PATIENCE]


def test_one_that_hangs_does_not_keep_the_others_from_being_watched() -> None:
    frozen, other = FrozenLink([]), FakeProcess(["alive"])
    _watch(frozen, other)
    assert other.restarts == [1 + PATIENCE, 1 + PATIENCE + START]
