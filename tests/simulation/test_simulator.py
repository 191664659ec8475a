"""The engine on random workflows and random faults; and what the simulator would notice.

A failing seed is told in full by `python -m orchx.testing.simulator --verbose SEED`.
"""

import os
import re
import subprocess
import sys

import pytest

from orchx.testing.mutations import MUTATIONS

SEEDS = 20_000

# Within how many seeds each broken rule shows, and the invariants (DESIGN 11) that may tell.
CAUGHT_WITHIN = {
    "ack-before-append": (100, {4, 5}),
    "ack-before-queue": (100, {0, 1, 2}),
    "believe-fenced-owner": (2_000, {4}),
    "early-timers": (100, {6}),
    "effects-before-append": (100, {4, 5}),
    "forget-timers": (200, {2, 3, 6}),
    "measure-on-the-wall": (2_500, {2}),
    "new-key-per-retry": (300, {5}),
    "no-command-dedup": (200, {3, 5}),
    "no-redispatch": (200, {2}),
    "orphan-children": (600, {9}),
    "relay-nothing": (100, {2}),
    "skip-epoch-check": (600, {0, 2, 3, 4}),
}


def simulator(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command as a user does: in a process of its own, its hash seed fixed."""
    return subprocess.run(
        [sys.executable, "-m", "orchx.testing.simulator", *arguments],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONHASHSEED": "0"},
    )


@pytest.mark.timeout(1_500)
def test_no_seed_violates_an_invariant() -> None:
    done = simulator("--seeds", f"1:{SEEDS}", "--processes", "2")
    assert done.returncode == 0, done.stdout + done.stderr
    told = rf"^simulator: seeds={SEEDS} violations=0 seconds=\d+$"
    assert re.search(told, done.stdout, re.MULTILINE)


def test_a_seed_always_tells_the_same_story() -> None:
    stories = [simulator("--verbose", "8").stdout for _ in range(2)]
    assert stories[0] == stories[1]
    assert len(stories[0].splitlines()) > 10


def test_every_mutation_has_its_limit() -> None:
    assert CAUGHT_WITHIN.keys() == MUTATIONS.keys()


@pytest.mark.parametrize("mutation", sorted(CAUGHT_WITHIN))
def test_a_broken_rule_is_caught(mutation: str) -> None:
    seeds, invariants = CAUGHT_WITHIN[mutation]
    done = simulator("--seeds", f"1:{seeds}", "--processes", "1", "--mutate", mutation, "--first")
    assert done.returncode == 1, done.stdout + done.stderr
    found = re.search(r"^seed \d+: invariant (\d)", done.stdout, re.MULTILINE)
    assert found is not None, done.stdout
    assert int(found[1]) in invariants, found[0]
