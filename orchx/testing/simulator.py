"""Runs many seeds and says which of them break orchx.

    python -m orchx.testing.simulator --seeds 1:20000 --processes 2
    python -m orchx.testing.simulator --verbose 4711          # one seed, with its whole story
    python -m orchx.testing.simulator --seeds 1:500 --mutate skip-epoch-check

The result is one line, `simulator: seeds=20000 violations=0 seconds=…`; the exit code is 1
if any seed failed. A seed means the same on every machine: the iteration order of sets
hangs on PYTHONHASHSEED, so the workers run with that fixed.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from orchx.testing.mutations import MUTATIONS, mutated
from orchx.testing.simulation import Result, simulate

HASH_SEED: Final = "0"
CHUNK: Final = 20
MAX_SHOWN: Final = 5
SHOWN_LINES: Final = 60
PROGRESS_EVERY_S: Final = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What one seed came to; `violation` is empty where all went well."""

    seed: int
    violation: str
    digest: str
    records: int


def judge(seed: int, mutation: str | None = None) -> Verdict:
    """Run one seed and say what came of it."""
    with mutated(mutation):
        result = simulate(seed)
    return _verdict(result)


def _verdict(result: Result) -> Verdict:
    return Verdict(
        seed=result.seed,
        violation="" if result.violation is None else str(result.violation),
        digest=result.digest,
        records=result.records,
    )


def _judge(work: tuple[int, str | None]) -> Verdict:
    return judge(*work)


def run_seeds(
    seeds: Sequence[int], *, processes: int = 1, mutation: str | None = None, stop_after: int = 0
) -> list[Verdict]:
    """Run seeds, with progress on the screen; returns their verdicts in no fixed order.

    Args:
        seeds: which ones.
        processes: how many at once.
        mutation: how the engine is broken, if it is.
        stop_after: so many violations are enough; 0: never.
    """
    work = [(seed, mutation) for seed in seeds]
    if processes == 1:
        return _collect(map(_judge, work), len(work), stop_after)
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        return _collect(pool.imap_unordered(_judge, work, chunksize=CHUNK), len(work), stop_after)


def _collect(verdicts: Iterable[Verdict], total: int, stop_after: int) -> list[Verdict]:
    collected: list[Verdict] = []
    violations = 0
    next_s = time.monotonic() + PROGRESS_EVERY_S
    for verdict in verdicts:
        collected.append(verdict)
        if verdict.violation:
            violations += 1
            if violations <= MAX_SHOWN:
                print(f"seed {verdict.seed}: {verdict.violation}", flush=True)
            if violations == stop_after:
                break
        if time.monotonic() > next_s:
            next_s += PROGRESS_EVERY_S
            print(f"  {len(collected)} of {total} seeds, {violations} violations", flush=True)
    return collected


def tell(seed: int, mutation: str | None = None) -> bool:
    """Print the story of one seed; return whether all went well."""
    with mutated(mutation):
        result = simulate(seed, traced=True)
    lines = result.trace
    if result.violation is not None and len(lines) > SHOWN_LINES:
        print(f"  ... {len(lines) - SHOWN_LINES} lines before")
        lines = lines[-SHOWN_LINES:]
    print("\n".join(lines))
    print(
        f"seed {seed}: {result.workflows} workflows, {result.records} records,"
        f" {result.virtual_s:.1f} virtual seconds, {result.digest[:16]}"
    )
    return result.violation is None


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what the command line asks for; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m orchx.testing.simulator")
    parser.add_argument("--seeds", default="1:1000", help="first:last, both included")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--verbose", type=int, metavar="SEED", help="tell the story of one seed")
    parser.add_argument("--mutate", choices=sorted(MUTATIONS), help="break the engine first")
    parser.add_argument("--first", action="store_true", help="stop at the first violation")
    options = parser.parse_args(arguments)
    if options.verbose is not None:
        return 0 if tell(options.verbose, options.mutate) else 1
    first, _, last = options.seeds.partition(":")
    seeds = range(int(first), int(last or first) + 1)
    began_s = time.monotonic()
    verdicts = run_seeds(
        seeds,
        processes=options.processes,
        mutation=options.mutate,
        stop_after=1 if options.first else 0,
    )
    failed = sorted(verdict.seed for verdict in verdicts if verdict.violation)
    if failed:
        print("failed seeds:", *failed[:50])
        tell(failed[0], options.mutate)
    seconds = time.monotonic() - began_s
    print(f"simulator: seeds={len(verdicts)} violations={len(failed)} seconds={seconds:.0f}")
    return 1 if failed else 0


if __name__ == "__main__":
    if os.environ.get("PYTHONHASHSEED") != HASH_SEED:
        command = [sys.executable, "-m", "orchx.testing.simulator", *sys.argv[1:]]
        environment = {**os.environ, "PYTHONHASHSEED": HASH_SEED}
        sys.exit(subprocess.run(command, env=environment, check=False).returncode)
    sys.exit(main())
