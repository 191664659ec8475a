"""Faults under load: `make chaos`.

Usage: python -m tests.chaos [--rows PATTERN] [--list] [--seconds N] [--rate N] [--json] [--write]

Needs root (network namespaces, loop devices), nft and a C compiler. Everything happens in
namespaces and on loop devices named `orchx-chaos-`, which are removed at the end, and at the
next start if this is killed. One run at a time.
"""

from __future__ import annotations

import argparse
import fnmatch
import json
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path

from tests.chaos import disks, process_cut, report, servers_on_machines
from tests.chaos.network import PREFIX, is_permitted, network, standing_on
from tests.chaos.row_run import Result, run_row
from tests.chaos.rows import ROWS, Row
from tests.chaos.site import CLIENT, MACHINES, Extra, Site, programs_missing, site
from tests.e2e import process_tree
from tests.e2e.conditions import eventually

RATE_PER_S = 50.0
HOLD_S = 15.0
READY_TIMEOUT_S = 60.0
STARTS_MAX = 3
STACK_TIMEOUT_S = 10.0
_DEFINITIONS = Path(__file__).parent / "definitions"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the rows that are wanted; the exit status is 0 if all pass."""
    options = _options(arguments)
    patterns = [pattern.lower() for pattern in options.rows or ("*",)]
    rows = [row for row in ROWS if any(fnmatch.fnmatchcase(row.name.lower(), p) for p in patterns)]
    if options.list or not rows:
        print("\n".join(row.name for row in rows or ROWS))
        return (
            0
            if options.list
            else _refuse(f"no row is like {', '.join(options.rows)}; these are all")
        )
    if lacking := _lacking(rows):
        return _refuse(lacking)
    signal.signal(signal.SIGTERM, _end)
    done = _Done()
    try:
        with tempfile.TemporaryDirectory() as prepared:
            servers_on_machines.obtain(Path(prepared))
        with network(MACHINES), _run_folder() as folder, standing_on(CLIENT):
            _run(rows, folder, options, done)
    except BlockingIOError:
        return _refuse("another run is under way on this machine")
    except (RuntimeError, AssertionError) as error:  # what has been run is told all the same
        print(f"chaos: {error}", file=sys.stderr)
    finally:  # whoever tells it to end keeps what it has found
        if options.write and done.results:
            report.record(
                done.results,
                servers=done.servers,
                hold_s=options.seconds,
                rate_per_s=options.rate,
            )
    passed = sum(each.is_passed for each in done.results)
    print(f"chaos: {passed} of {len(rows)} rows passed", file=sys.stderr)
    return int(passed < len(rows))


@dataclass(slots=True)
class _Done:
    """What has been run so far, and on what servers."""

    results: list[Result] = field(default_factory=list)
    servers: str = ""


def _end(number: int, frame: object) -> None:
    """End as after Ctrl-C, so that nothing stays behind."""
    print("chaos: told to end", file=sys.stderr, flush=True)
    sys.exit(128 + number)


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.chaos", description=str(__doc__).splitlines()[0]
    )
    parser.add_argument(
        "--rows", action="append", help="shell pattern of rows, e.g. 'redis*'; repeatable"
    )
    parser.add_argument("--list", action="store_true", help="show the rows' names and end")
    parser.add_argument("--seconds", type=float, default=HOLD_S, help="how long a fault lasts")
    parser.add_argument("--rate", type=float, default=RATE_PER_S, help="requests a second")
    parser.add_argument("--json", action="store_true", help="print a JSON line for each row")
    parser.add_argument("--write", action="store_true", help="put the results into docs/chaos.md")
    parser.add_argument("--keep", type=Path, help="folder for the logs of rows that fail")
    return parser.parse_args(arguments)


def _run(rows: Sequence[Row], folder: Path, options: argparse.Namespace, done: _Done) -> None:
    """Run rows, those with the same machines on the same site as long as it stays whole."""
    for extra, group in groupby(rows, key=lambda row: row.extra):
        left = list(group)
        while left:
            with ExitStack() as stack:
                there, own = _settle(stack, folder, extra)
                done.servers = there.description
                done.results.append(_run_one(left.pop(0), there, own, options))
                while left and _is_whole(there):
                    done.results.append(_run_one(left.pop(0), there, own, options))
            shutil.rmtree(own, ignore_errors=True)


def _settle(stack: ExitStack, folder: Path, extra: Extra) -> tuple[Site, Path]:
    """Start a site in a folder of its own, which takes more than one try on a busy machine."""
    for left in reversed(range(STARTS_MAX)):
        own = folder / secrets.token_hex(3)
        own.mkdir()
        try:
            there = site(own, label=f"chaos-{own.name}", extra=extra, definitions=_DEFINITIONS)
            return stack.enter_context(there), own
        except (RuntimeError, AssertionError) as error:
            if not left:
                raise
            print(f"chaos: starts again: {error}", file=sys.stderr, flush=True)
    raise AssertionError("there was no try")


def _run_one(row: Row, there: Site, own: Path, options: argparse.Namespace) -> Result:
    """Run a row and tell of it."""
    with ExitStack() as when_kept:
        try:
            result = run_row(row, there, hold_s=options.seconds, rate_per_s=options.rate)
        except Exception as error:  # the edge of a row: the others are run all the same
            traceback.print_exception(error)
            result = Result.broken(row, error)
            when_kept.callback(there.engine.kill)
        if not result.is_passed:
            _keep(row, there, own, options)
    print(json.dumps(result.as_json()) if options.json else _told(result), flush=True)
    return result


def _told(result: Result) -> str:
    acceptance = result.acceptance
    recovered = "never" if result.recovered_s is None else f"{result.recovered_s:.1f} s"
    outcome = "passed" if result.is_passed else "FAILED"
    lines = [
        f"{outcome}  {result.row}: {acceptance.requests} requests,"
        f" {acceptance.refused_then_accepted} refused at first (longest"
        f" {acceptance.longest_refusal_s:.1f} s), behind {result.usual_behind:.0f} usually,"
        f" {result.most_behind} at most, recovered after {recovered}"
    ]
    return "\n        ".join([*lines, *result.complaints])


def _is_whole(there: Site) -> bool:
    """Tell whether the site can take another row."""
    try:
        return there.engine_lives() and eventually(
            there.is_whole, "all parts to be well", timeout_s=READY_TIMEOUT_S
        )
    except AssertionError:  # it was killed, or is not well
        return False


def _keep(row: Row, there: Site, own: Path, options: argparse.Namespace) -> None:
    """Copy the logs of a row that failed to where the user wants them."""
    if options.keep is None:
        return
    to = options.keep / "".join(letter if letter.isalnum() else "-" for letter in row.name)
    to.mkdir(parents=True, exist_ok=True)
    workers = there.engine.logs.glob("worker-*") if there.engine.logs else ()
    for log in (*own.glob("engine/*.log"), *own.glob("servers/*.log"), *workers):
        if log.stat().st_size:
            shutil.copy(log, to)
    (to / "stacks.txt").write_text("\n".join(_stacks(there)))


def _stacks(there: Site) -> Iterator[str]:
    """Say what each Python process of the engine is at: who hangs, hangs in there."""
    if (spy := shutil.which("py-spy", path=Path(sys.executable).parent)) is None:
        return
    for pid, command in process_tree.session_members(there.engine.session).items():
        with suppress(subprocess.SubprocessError):  # it is no Python, or ends just now
            told = subprocess.run(
                (spy, "dump", "--nonblocking", "--pid", str(pid)),
                capture_output=True,
                text=True,
                check=True,
                timeout=STACK_TIMEOUT_S,
            )
            yield f"{pid} {command}\n{told.stdout}"


def _lacking(rows: Sequence[Row]) -> str:
    """Return why the rows cannot be run here; empty if they can."""
    if missing := programs_missing():
        return f"missing: {', '.join(missing)} (tools/system_packages.sh nft:nftables ...)"
    if not is_permitted():
        return "this user may not make network namespaces: run as root"
    if any(row.extra == "disks" for row in rows) and not disks.can_slow():
        return "this kernel cannot slow a disk: no blkio throttle of control groups, version 1"
    return ""


def _refuse(reason: str) -> int:
    print(f"chaos: {reason}", file=sys.stderr)
    return 2


@contextmanager
def _run_folder() -> Iterator[Path]:
    """Return a folder of this run's own, those of killed runs removed."""
    disks.remove_leftovers()
    process_cut.unmount()
    for left in Path(tempfile.gettempdir()).glob(f"{PREFIX}run-*"):
        shutil.rmtree(left, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix=f"{PREFIX}run-", ignore_cleanup_errors=True) as name:
        try:
            yield Path(name)
        finally:
            process_cut.unmount()
            disks.remove_leftovers()


if __name__ == "__main__":
    sys.exit(main())
