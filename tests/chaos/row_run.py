"""One row, from the first request to the verdict."""

from __future__ import annotations

import re
import secrets
import threading
import time
from contextlib import closing
from dataclasses import asdict, dataclass, field
from typing import Any

from tests.chaos.cpu import CpuUse
from tests.chaos.judge import Judge, Verdict
from tests.chaos.load import Acceptance, Load
from tests.chaos.meter import Meter
from tests.chaos.rows import Row
from tests.chaos.site import MACHINES, Site
from tests.e2e.sandbox_ledger import SandboxLedger

DEFINITION = ("chaos", "five-steps")
STEPS = (
    "hr.create-employee",
    "it.create-account",
    "it.grant-access",
    "hr.notify-manager",
    "mail.send-message",
)
WARM_S, BEFORE_S = 4.0, 6.0
"""Of load before the strike: the first part is not measured."""

USUAL_LATENCY_S = 2.0
"""So long a workflow may take where nothing is wrong: what is behind then is no backlog."""

ACCEPT_TIMEOUT_S = 60.0
END_TIMEOUT_S = 60.0
_LOOK_S = 0.25


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What a row has shown; times in seconds.

    `recovered_s` counts from healing until the backlog was gone; None: it was not. `cores` are
    those that each machine kept busy before the strike; `behind` is how many were, every
    `COURSE_S` seconds since; `cores_after` counts from healing until the backlog was gone.
    """

    row: str
    held_s: float
    acceptance: Acceptance
    usual_behind: float
    most_behind: int
    recovered_s: float | None
    verdict: Verdict
    cores: dict[str, float] = field(default_factory=dict)
    cores_after: dict[str, float] = field(default_factory=dict)
    behind: list[int] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)

    @property
    def is_passed(self) -> bool:
        """Whether everything that the row asks for holds."""
        return not self.complaints

    @classmethod
    def broken(cls, row: Row, error: Exception) -> Result:
        """Return that of a row which could not be run to its end."""
        return cls(
            row=row.name,
            held_s=0.0,
            acceptance=Acceptance.of([]),
            usual_behind=0.0,
            most_behind=0,
            recovered_s=None,
            verdict=Verdict(),
            complaints=[f"not run to its end: {error}"],
        )

    def as_json(self) -> dict[str, Any]:
        """Return it with plain values."""
        told = asdict(self)
        told["passed"] = self.is_passed
        return told


def run_row(row: Row, site: Site, *, hold_s: float, rate_per_s: float) -> Result:
    """Run one row on a site where nothing else is going on.

    Args:
        row: which.
        site: all of it works.
        hold_s: how long the fault lasts, in seconds.
        rate_per_s: requests a second.

    Raises:
        AssertionError: a part did not come back, or the ledger cannot be read.
    """
    with closing(SandboxLedger(site.sandbox.url)) as ledger:
        return _run(row, site, ledger, hold_s=hold_s, rate_per_s=rate_per_s)


def _run(
    row: Row, site: Site, ledger: SandboxLedger, *, hold_s: float, rate_per_s: float
) -> Result:
    label = re.sub(r"[^a-z0-9]+", "-", row.name.lower()).strip("-")
    label = f"{label}-{secrets.token_hex(3)}"
    ledger.begin()
    judge = Judge(site, ledger, STEPS)
    assert site.engine.admin_key is not None
    load = Load(
        site.engine.url,
        site.engine.admin_key,
        label,
        definition=DEFINITION,
        rate_per_s=rate_per_s,
    )
    meter = Meter(load, ledger, last_step=STEPS[-1])
    load.start()
    meter.start()
    try:
        _pass(WARM_S, load)
        quiet_s, cpu = time.monotonic(), CpuUse(MACHINES)
        _pass(BEFORE_S, load)
        usual, cores = meter.usual(quiet_s), cpu.cores()
        struck_s, healed_s = _strike(row, site, load, hold_s if row.hold else 0.0)
        level = max(2 * usual, USUAL_LATENCY_S * rate_per_s)
        cpu = CpuUse(MACHINES)
        gone_s = _await_recovery(meter, load, healed_s, level, row.recover_s)
        cores_after = cpu.cores()
        load.finish(ACCEPT_TIMEOUT_S)
        _await_ends(meter)
    finally:
        load.stop()
        meter.finish()
    result = Result(
        row=row.name,
        held_s=round(healed_s - struck_s, 1),
        acceptance=Acceptance.of(load.requests),
        usual_behind=round(usual, 1),
        cores=cores,
        cores_after=cores_after,
        most_behind=meter.most(struck_s),
        behind=meter.course(struck_s),
        recovered_s=None if gone_s is None else round(max(0.0, gone_s - healed_s), 1),
        verdict=judge.judge(load),
    )
    result.complaints.extend(_complaints(row, result))
    return result


def _strike(row: Row, site: Site, load: Load, hold_s: float) -> tuple[float, float]:
    """Bring the fault about and undo it; return when it began and when it was healed."""
    target = row.target(site)
    target.choose()
    struck_s = time.monotonic()
    try:
        row.fault.strike(target)
        _pass(hold_s, load)
    finally:
        row.fault.heal(target)
    return struck_s, time.monotonic()


def _pass(length_s: float, load: Load) -> None:
    """Let time go by under load.

    Raises:
        AssertionError: there is no load any more.
    """
    threading.Event().wait(length_s)
    if not load.is_alive():
        raise AssertionError(f"the load has ended by itself: {load.error!r}")


def _await_recovery(
    meter: Meter, load: Load, healed_s: float, level: float, limit_s: float
) -> float | None:
    """Wait, with the load going on, until the backlog is gone; return when that was."""
    while (gone_s := meter.gone_at_s(healed_s, level)) is None:
        if time.monotonic() - healed_s > limit_s + END_TIMEOUT_S:
            return None
        _pass(_LOOK_S, load)
    return gone_s


def _await_ends(meter: Meter) -> None:
    """Wait until nothing is behind, or it has had its time: then the verdict says stuck."""
    deadline_s = time.monotonic() + END_TIMEOUT_S
    while (not meter.samples or meter.samples[-1][1] > 0) and time.monotonic() < deadline_s:
        threading.Event().wait(_LOOK_S)


def _complaints(row: Row, result: Result) -> list[str]:
    verdict, acceptance = result.verdict, result.acceptance
    found = [
        f"{name} {count}"
        for name, count in (
            ("lost", verdict.lost),
            ("doubled", verdict.doubled),
            ("stuck", verdict.stuck),
            ("never accepted", acceptance.never_accepted),
        )
        if count
    ]
    found += verdict.findings
    if acceptance.wrong_answers:
        found.append(f"answers that tell a client to give up: {acceptance.wrong_answers}")
    if acceptance.longest_refusal_s > result.held_s + row.refusal_s:
        found.append(f"refused for {acceptance.longest_refusal_s:.1f} s")
    if result.recovered_s is None:
        found.append("the backlog did not go away")
    elif result.recovered_s > row.recover_s:
        found.append(f"took {result.recovered_s:.1f} s to recover")
    return found
