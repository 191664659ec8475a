"""Run the tests layer by layer, fastest first, and end with one summary of them all.

Pure tests share the cores; tests that start servers and Ray run one at a time, so that they
do not starve each other. Every layer runs, also after a failure.
Usage: python tools/run_tests.py [PYTEST ARGUMENT...]
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ET
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TESTS = ROOT / "tests"
SUMMARY_WIDTH = 80
EXIT_OK = 0
EXIT_BROKEN = 3
EXIT_NO_TESTS = 5
# The order of pytest's own summary line.
OUTCOMES = ("failed", "passed", "skipped", "xfailed", "errors")


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """A part of the tests that runs in one pytest process (or one per core)."""

    name: str
    folders: tuple[str, ...]
    is_parallel: bool


LAYERS = (
    Layer(name="core", folders=("unit", "contract", "property"), is_parallel=True),
    Layer(name="simulation", folders=("simulation",), is_parallel=True),
    Layer(name="system", folders=("integration", "e2e"), is_parallel=False),
)


def test_folders(layer: Layer) -> list[Path]:
    """List the layer's folders that hold a test."""
    folders = [TESTS / name for name in layer.folders]
    return [folder for folder in folders if next(folder.rglob("test_*.py"), None)]


def count_outcomes(report: Path) -> Counter[str]:
    """Count the outcomes in a JUnit report that pytest has just written."""
    counts: Counter[str] = Counter()
    for case in ET.parse(report).getroot().iter("testcase"):  # noqa: S314  our own pytest's file
        skipped = case.find("skipped")
        # A test that passes and then fails in its teardown has both: the error is what counts.
        if case.find("error") is not None:
            counts["errors"] += 1
        elif case.find("failure") is not None:
            counts["failed"] += 1
        elif skipped is not None:
            counts["xfailed" if skipped.get("type") == "pytest.xfail" else "skipped"] += 1
        else:
            counts["passed"] += 1
    return counts


def run_layer(layer: Layer, folders: list[Path], arguments: list[str]) -> tuple[int, Counter[str]]:
    """Run one layer and return pytest's exit status and the counts of its outcomes."""
    shown = " ".join(str(folder.relative_to(ROOT)) for folder in folders)
    print(f"--- {layer.name}: {shown}", flush=True)
    with tempfile.TemporaryDirectory() as scratch:
        report = Path(scratch) / "report.xml"
        workers = "auto" if layer.is_parallel else "0"
        command = [sys.executable, "-m", "pytest", "-q", "-n", workers, f"--junitxml={report}"]
        status = subprocess.run([*command, *arguments, *folders], cwd=ROOT, check=False).returncode
        if not report.exists():  # pytest itself broke down
            return status or EXIT_BROKEN, Counter(errors=1)
        counts = count_outcomes(report)
    if status not in (EXIT_OK, EXIT_NO_TESTS) and not counts["failed"] + counts["errors"]:
        counts["errors"] += 1  # killed, or interrupted: not in the report, yet not a success
    return status, counts


def summary_line(counts: Counter[str], duration_s: float) -> str:
    """Word the totals as pytest words them."""
    words = {name: name for name in OUTCOMES}
    if counts["errors"] == 1:
        words["errors"] = "error"
    parts = [f"{counts[name]} {words[name]}" for name in OUTCOMES if counts[name]]
    text = f" {', '.join(parts) or 'no tests ran'} in {duration_s:.2f}s "
    return text.center(SUMMARY_WIDTH, "=")


def main(arguments: list[str]) -> int:
    """Run every layer; the exit status is 0 when tests ran and none failed."""
    started_s = time.monotonic()
    totals: Counter[str] = Counter()
    failed_layers = []
    for layer in LAYERS:
        folders = test_folders(layer)
        if not folders:
            continue
        status, counts = run_layer(layer, folders, arguments)
        totals += counts
        if status not in (EXIT_OK, EXIT_NO_TESTS):
            failed_layers.append(layer.name)
    if failed_layers:
        print(f"failed in: {', '.join(failed_layers)}")
    print(summary_line(totals, time.monotonic() - started_s), flush=True)
    return int(bool(failed_layers) or not totals)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
