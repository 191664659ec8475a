"""Run the tests layer by layer, fastest first, and end with one summary of them all.

Tests share the cores; only those that start Ray run one at a time, so that they do not starve
each other. Every layer runs, also after a failure.

They run against Redis, MongoDB and Kafka of their own, which are started first and stopped at
the end; one that the environment names already (ORCHX_TEST_REDIS, ..._MONGODB, ..._KAFKA) is
used as it is. Where one cannot be had its tests skip, but under continuous integration (CI is
set) nothing runs then: it is never to test less without anybody noticing.
Usage: python -m tools.run_tests [PYTEST ARGUMENT...]
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from tools.services.running import running

ROOT = Path(__file__).resolve().parent.parent
TESTS = ROOT / "tests"
SUMMARY_WIDTH = 80
EXIT_OK = 0
EXIT_BROKEN = 3
EXIT_NO_TESTS = 5
EXIT_INTERRUPTED = 128 + signal.SIGINT
EXIT_TERMINATED = 128 + signal.SIGTERM
# The order of pytest's own summary line.
OUTCOMES = ("failed", "passed", "skipped", "xfailed", "errors")


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """A part of the tests that runs in one pytest process, or one per core.

    Those by one process `whole` files at a time where tests of a file share what is dear.
    """

    name: str
    folders: tuple[str, ...]
    is_parallel: bool
    whole_files: bool = False

    @property
    def options(self) -> tuple[str, ...]:
        """What pytest is told of it."""
        workers = "auto" if self.is_parallel else "0"
        return ("-n", workers, *(("--dist", "loadfile") if self.whole_files else ()))


CLUSTER = Layer(name="cluster", folders=("cluster",), is_parallel=False)
LAYERS: tuple[Layer, ...] = (
    Layer(name="core", folders=("unit", "contract", "property"), is_parallel=True),
    Layer(name="simulation", folders=("simulation",), is_parallel=True),
    Layer(name="servers", folders=("integration",), is_parallel=True, whole_files=True),
    Layer(name="system", folders=("actors", "e2e"), is_parallel=False),
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


class ServersMissingError(Exception):
    """Under continuous integration a server could not be had."""


@contextmanager
def servers(environ: Mapping[str, str]) -> Iterator[dict[str, str]]:
    """Start the servers that the environment does not name; yield what names them to the tests.

    Raises:
        ServersMissingError: one is missing, and `CI` is set.
    """
    with tempfile.TemporaryDirectory(prefix="orchx-services-") as folder:
        started_s = time.monotonic()
        with running(Path(folder), wanted=lambda each: not environ.get(each.variable)) as outcome:
            for server in outcome.running:
                _say(str(server))
            is_ci = bool(environ.get("CI"))
            for missing in outcome.missing:
                _say(f"{missing}; {'CI needs it' if is_ci else 'tests that need it skip'}")
            if outcome.missing and is_ci:
                raise ServersMissingError
            if outcome.running:
                _say(f"ready in {time.monotonic() - started_s:.1f} s")
            yield outcome.addresses()
            for line in outcome.deaths():
                _say(line)


def _say(line: str) -> None:
    print(f"servers: {line}", flush=True)


def run_layer(
    layer: Layer, folders: list[Path], arguments: list[str], environ: Mapping[str, str]
) -> tuple[int, Counter[str]]:
    """Run one layer and return pytest's exit status and the counts of its outcomes."""
    shown = " ".join(str(folder.relative_to(ROOT)) for folder in folders)
    print(f"--- {layer.name}: {shown}", flush=True)
    with tempfile.TemporaryDirectory() as scratch:
        report = Path(scratch) / "report.xml"
        command = [sys.executable, "-m", "pytest", "-q", *layer.options, f"--junitxml={report}"]
        status = subprocess.run(
            [*command, *arguments, *folders], cwd=ROOT, env=environ, check=False
        ).returncode
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


def run_layers(
    layers: Mapping[Layer, list[Path]], arguments: list[str], environ: Mapping[str, str]
) -> tuple[list[str], Counter[str]]:
    """Run every layer in its folders; return the names of those that failed, and the totals."""
    totals: Counter[str] = Counter()
    failed = []
    for layer, folders in layers.items():
        status, counts = run_layer(layer, folders, arguments, environ)
        totals += counts
        if status not in (EXIT_OK, EXIT_NO_TESTS):
            failed.append(layer.name)
    return failed, totals


def main(arguments: list[str]) -> int:
    """Run every layer; the exit status is 0 when tests ran and none failed.

    With `--cluster`, that of several nodes instead: it needs minutes, and network namespaces.
    """
    started_s = time.monotonic()
    wanted = LAYERS
    if "--cluster" in arguments:
        wanted = (CLUSTER,)
        arguments = [argument for argument in arguments if argument != "--cluster"]
    layers = {layer: folders for layer in wanted if (folders := test_folders(layer))}
    failed: list[str] = []
    totals: Counter[str] = Counter()
    if layers:
        try:
            with servers(os.environ) as addresses:
                failed, totals = run_layers(layers, arguments, {**os.environ, **addresses})
        except ServersMissingError:
            failed = ["servers"]
            totals["errors"] += 1
    if failed:
        print(f"failed in: {', '.join(failed)}")
    print(summary_line(totals, time.monotonic() - started_s), flush=True)
    return int(bool(failed) or not totals)


def _terminate(number: int, frame: object) -> NoReturn:
    """End as after Ctrl-C, so that the servers are stopped and their folder is removed."""
    sys.exit(EXIT_TERMINATED)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, _terminate)
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit(EXIT_INTERRUPTED)
