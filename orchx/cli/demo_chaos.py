"""What goes wrong during the demo, and for how long: bounded, so that nothing fails for good."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from orchx.cli.demo_board import Board
from orchx.cli.demo_sandbox import SandboxControl

POLL_S: Final = 0.1
RETRY_AFTER_S: Final = 1
HANG_S: Final = 4
"""Longer than anyone waits; then the service does what was asked of it after all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Disturbance:
    """One thing that goes wrong.

    It ends once it has happened `quota` times (None: it lasts), so that no task is hit more
    often than its definition retries. `words` tell of its first time.
    """

    service: str
    operation: str | None
    settings: Mapping[str, Any]
    words: str
    quota: int | None = None


def _burst(count: int, after_calls: int, status: int = 503) -> dict[str, Any]:
    burst = {"count": count, "after_calls": after_calls, "status": status}
    return {"burst": burst, "retry_after_s": RETRY_AFTER_S}


def _lost(rate: float) -> dict[str, Any]:
    return {"lose_response_rate": rate}


DISTURBANCES: Final = (
    Disturbance(
        service="laptops-express",
        operation=None,
        settings={"dead": True},
        words="laptops-express is dead: it cuts every connection",
    ),
    Disturbance(
        service="hr",
        operation="createEmployee",
        settings=_burst(4, 1),
        words="hr.create-employee answers 503 for a while (Retry-After 1 s)",
    ),
    Disturbance(
        service="finance",
        operation="matchInvoice",
        settings=_burst(4, 2),
        words="finance.match-invoice answers 503 for a while (Retry-After 1 s)",
    ),
    Disturbance(
        service="it",
        operation="grantAccess",
        settings=_burst(3, 1, 429),
        words="it.grant-access limits the rate: 429 (Retry-After 1 s)",
    ),
    Disturbance(
        service="it",
        operation="diagnoseIncident",
        settings={"hang_rate": 1, "hang_s": HANG_S},
        words="it.diagnose-incident hangs: no answer comes",
        quota=3,
    ),
    Disturbance(
        service="hr",
        operation="bookLeave",
        settings=_lost(0.6),
        words="hr.book-leave did its work, but the answer was lost",
        quota=3,
    ),
    Disturbance(
        service="finance",
        operation="postInvoice",
        settings=_lost(0.6),
        words="finance.post-invoice did its work, but the answer was lost",
        quota=3,
    ),
    Disturbance(
        service="finance",
        operation="reimburseExpense",
        settings=_lost(0.6),
        words="finance.reimburse-expense did its work, but the answer was lost",
        quota=3,
    ),
    Disturbance(
        service="inbox",
        operation="hr",
        settings=_burst(3, 5),
        words="the HR system itself is down: webhooks get 503",
    ),
)
# The sandbox's names of faults, as a person would say it.
FAULT_WORDS: Final[Mapping[str, str]] = {
    "dead": "dead service",
    "hang": "hanging call",
    "lose_response": "lost answer",
    "status_429": "429",
    "status_503": "503",
}


def in_words(injected: Mapping[str, int]) -> str:
    """Return how often what went wrong."""
    return ", ".join(
        f"{FAULT_WORDS.get(kind, kind)} ({count})" for kind, count in sorted(injected.items())
    )


class Chaos:
    """Sets the disturbances, ends each at its quota, and counts what was injected."""

    def __init__(self, control: SandboxControl, seed: int) -> None:
        self._control = control
        self._seed = seed
        self._ended: set[int] = set()
        self._hanging_until_s = 0.0

    def begin(self) -> None:
        """Put all disturbances in force."""
        for number, one in enumerate(DISTURBANCES):
            settings = {"seed": self._seed * 100 + number, **one.settings}
            self._control.disturb(one.service, one.operation, settings)

    def run(self, board: Board, stop: threading.Event) -> None:
        """Watch over the quotas until told to stop."""
        while not stop.wait(POLL_S):
            self.observe(board)

    def aftermath_s(self) -> float:
        """Return in how many seconds the last hanging call will have had its effect."""
        return max(0.0, self._hanging_until_s - time.monotonic())

    def observe(self, board: Board) -> None:
        """Read what was injected so far; end what has had its quota."""
        plans = {(plan["service"], plan["operation"]): plan for plan in self._control.faults()}
        for number, one in enumerate(DISTURBANCES):
            plan = plans.get((one.service, one.operation))
            if plan is None or number in self._ended:
                continue
            injected: Counter[str] = Counter(plan["injected"])
            if injected and board.injected_by(number).total() == 0:
                board.tell(one.words, "bold yellow")
            if injected["hang"] > board.injected_by(number)["hang"]:
                self._hanging_until_s = time.monotonic() + HANG_S
            board.note_injected(number, injected)
            if one.quota is not None and injected.total() >= one.quota:
                self._control.calm(one.service, one.operation)
                self._ended.add(number)
