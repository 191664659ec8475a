"""`orchx demo` as a user runs it, and proof that its books would show a fault."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from orchx.cli.demo_accounting import (
    Account,
    Acknowledged,
    Effect,
    Logged,
    Received,
    audit,
    percentile,
)
from orchx.cli.demo_cases import Case, draw_cases
from orchx.cli.demo_variants import COMPLETED, SYSTEM_OF, VARIANTS

ROOT = Path(__file__).resolve().parents[2]
ORCHX = Path(sys.executable).with_name("orchx")
LAST_LINE = re.compile(
    r"demo: submitted=(\d+) completed=(\d+) failed=(\d+) lost=0 duplicated=0 p50_ms=\d+"
)
RUN_TIMEOUT_S = 170
STOP_TIMEOUT_S = 60
WORKFLOW = "wf_1"
CHILD = "wf_2"
CASE = Case(
    number=1,
    system="it",
    type="laptop-incident",
    variant="replaced",
    key="run-1",
    input={},
    ending=COMPLETED,
    effects={"it.triage-incident": 1, "it.provision-laptop": 1},
    at_s=0,
)
REQUEST = Acknowledged(case=CASE, workflow_ids=(WORKFLOW,), submitted_ms=1_000)
LOG = Logged(
    id=WORKFLOW, key="run-1", endings=("completed",), ended_ms=1_250, retries=1, children=(CHILD,)
)
CHILD_LOG = Logged(id=CHILD, key="", endings=("completed",), ended_ms=1_200, retries=2)
TRIAGE = Effect(workflow=WORKFLOW, operation="it.triage-incident", subject="LB-1")
LAPTOP = Effect(workflow=CHILD, operation="it.provision-laptop", subject="EMP-1")
STARTED = Received(
    id="msg_1",
    workflow=WORKFLOW,
    type="io.serverlessworkflow.workflow.started.v1",
    offset=1,
    verified=True,
)
OUTCOME = replace(STARTED, id="msg_2", type="io.serverlessworkflow.workflow.completed.v1", offset=9)


def books(
    *,
    request: Acknowledged = REQUEST,
    logs: tuple[Logged, ...] = (LOG, CHILD_LOG),
    effects: tuple[Effect, ...] = (TRIAGE, LAPTOP),
    webhooks: tuple[Received, ...] = (STARTED, OUTCOME),
) -> Account:
    return audit([request], logs, effects, webhooks)


def counts(account: Account) -> dict[str, int]:
    """What was found, by kind."""
    found: Counter[str] = Counter()
    for finding in account.findings:
        found[finding.kind] += finding.count
    return dict(found)


@pytest.mark.slow
@pytest.mark.timeout(RUN_TIMEOUT_S + 30)
def test_a_whole_run_loses_and_doubles_nothing() -> None:
    run = subprocess.run(
        [ORCHX, "demo", "--requests", "60", "--seed", "7"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=RUN_TIMEOUT_S,
        check=False,
    )

    last_line = LAST_LINE.fullmatch(run.stdout.splitlines()[-1])
    assert last_line is not None, run.stdout + run.stderr
    submitted, completed, failed = map(int, last_line.groups())
    assert (submitted, completed + failed) == (60, 60)
    assert completed > failed > 0
    said = " ".join(run.stdout.split())  # lines may be wrapped anywhere
    assert re.search(r"turned to another service [1-9]\d* times", said)
    assert re.search(r"[1-9]\d* answers given too late", said)
    for fault in ("dead service", "hanging call", "lost answer", "429", "503"):
        assert re.search(rf"{fault} \([1-9]", said), fault
    told = re.search(r"Failed as designed: .* end with it: ([^.]+)\.", said)
    assert told is not None, said
    assert sum(map(int, re.findall(r"(\d+) [a-z-]+", told[1]))) == failed
    assert run.returncode == 0


@pytest.mark.slow
@pytest.mark.timeout(RUN_TIMEOUT_S + STOP_TIMEOUT_S)
def test_sigterm_in_the_middle_leaves_no_process_behind(tmp_path: Path) -> None:
    said = tmp_path / "stderr"
    with (
        said.open("w") as stderr,
        subprocess.Popen(
            [ORCHX, "demo", "--requests", "60", "--json"],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
        ) as demo,
    ):
        try:
            assert demo.stdout is not None
            line = demo.stdout.readline()
            assert line, said.read_text()
            assert json.loads(line)["progress"]["submitted"] < 60
            below = descendants(demo.pid)
            assert below
            demo.send_signal(signal.SIGTERM)
            demo.stdout.read()
            status = demo.wait(STOP_TIMEOUT_S)
        finally:
            demo.kill()

    assert status == 128 + signal.SIGTERM, said.read_text()
    deadline_s = time.monotonic() + 10
    while (left := [pid for pid in below if is_running(pid)]) and time.monotonic() < deadline_s:
        time.sleep(0.2)
    assert left == []


def descendants(pid: int) -> set[int]:
    """Return the processes below this one, without threads' own."""
    children: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:  # gone since
            continue
        children.setdefault(int(fields[1]), []).append(int(stat.parent.name))
    found: set[int] = set()
    left = [pid]
    while left:
        below = children.get(left.pop(), [])
        found.update(below)
        left += below
    return found


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_books_in_order_show_nothing() -> None:
    account = books()

    assert account.findings == ()
    assert account.last_line() == (
        "demo: submitted=1 completed=1 failed=0 lost=0 duplicated=0 p50_ms=250"
    )
    assert account.total("retries") == 3


def test_a_lost_effect_is_lost() -> None:
    assert counts(books(effects=(TRIAGE,))) == {"lost": 1}


def test_a_doubled_effect_is_duplicated() -> None:
    assert counts(books(effects=(TRIAGE, LAPTOP, LAPTOP))) == {"duplicated": 1}


def test_an_effect_beyond_what_was_asked_for_is_duplicated() -> None:
    other = replace(LAPTOP, subject="EMP-2")

    assert counts(books(effects=(TRIAGE, LAPTOP, other))) == {"duplicated": 1}


def test_a_doubled_effect_does_not_stand_in_for_a_lost_one() -> None:
    assert counts(books(effects=(TRIAGE, TRIAGE))) == {"lost": 1, "duplicated": 1}


def test_effects_of_a_workflow_that_nobody_asked_for_are_duplicated() -> None:
    stray = replace(LAPTOP, workflow="wf_9")

    assert counts(books(effects=(TRIAGE, LAPTOP, stray))) == {"duplicated": 1}


def test_a_missing_webhook_is_lost() -> None:
    assert counts(books(webhooks=(STARTED,))) == {"lost": 1}


def test_a_second_outcome_is_duplicated_but_the_same_one_twice_is_not() -> None:
    again = replace(OUTCOME, id="msg_3", offset=12)

    assert counts(books(webhooks=(STARTED, OUTCOME, again))) == {"duplicated": 1}
    assert counts(books(webhooks=(STARTED, OUTCOME, OUTCOME))) == {}


def test_webhooks_out_of_order_are_found_but_not_what_is_sent_again() -> None:
    assert counts(books(webhooks=(OUTCOME, STARTED))) == {"disordered": 1}
    assert counts(books(webhooks=(STARTED, OUTCOME, STARTED))) == {}


def test_a_forged_webhook_is_found() -> None:
    assert counts(books(webhooks=(STARTED, replace(OUTCOME, verified=False)))) == {"unverified": 1}


def test_an_outcome_that_is_not_the_logs_is_found() -> None:
    lie = replace(OUTCOME, type="io.serverlessworkflow.workflow.faulted.v1")

    assert counts(books(webhooks=(STARTED, lie))) == {"unexpected": 1}


@pytest.mark.parametrize("without", [LOG, CHILD_LOG])
def test_a_workflow_without_an_end_is_lost(without: Logged) -> None:
    rest = tuple(log for log in (LOG, CHILD_LOG) if log is not without)

    assert counts(books(logs=(*rest, replace(without, endings=())))) == {"lost": 1}


def test_a_workflow_that_is_not_in_the_log_is_lost() -> None:
    assert books(logs=()).count("lost") == 1


def test_a_workflow_that_ends_twice_is_duplicated() -> None:
    twice = replace(LOG, endings=("completed", "completed"))

    assert counts(books(logs=(twice, CHILD_LOG))) == {"duplicated": 1}


def test_a_second_workflow_of_one_key_is_duplicated_wherever_it_shows() -> None:
    second = replace(LOG, id="wf_3", children=())
    told_so = replace(REQUEST, workflow_ids=(WORKFLOW, "wf_3"))

    assert counts(books(logs=(LOG, CHILD_LOG, second))) == {"duplicated": 1}
    assert counts(books(request=told_so)) == {"duplicated": 1}


def test_an_end_that_was_not_meant_is_found() -> None:
    failed = replace(LOG, endings=("faulted",), error="communication")
    fault = replace(OUTCOME, type="io.serverlessworkflow.workflow.faulted.v1")

    account = books(logs=(failed, CHILD_LOG), webhooks=(STARTED, fault))

    assert counts(account) == {"unexpected": 1}
    assert (account.total("failed"), account.errors) == (1, {"communication": 1})


def test_the_cases_hold_every_variant_and_can_be_drawn_again(seed: int) -> None:
    cases = draw_cases(60, seed, "run")

    wanted = {(kind, variant) for kind, variants in VARIANTS.items() for variant in variants}
    assert {(case.type, case.variant) for case in cases} == wanted
    assert len({case.key for case in cases}) == 60
    assert any(case.resubmitted for case in cases)
    assert draw_cases(60, seed, "run") == cases
    assert draw_cases(60, seed + 1, "run") != cases


def test_few_requests_are_spread_over_the_types() -> None:
    assert {case.type for case in draw_cases(6, 1, "run")} == set(SYSTEM_OF)


def test_a_percentile_is_the_nearest_rank() -> None:
    assert [percentile([30, 10, 20], percent) for percent in (50, 95)] == [20, 30]
    assert percentile([], 50) == 0
