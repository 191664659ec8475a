"""The end of a process that has lost its Ray: what it had started ends with it, orphans too."""

from __future__ import annotations

import subprocess
import sys

import psutil

TIMEOUT_S = 30.0

# The child names its own child and ends; whoever is the subreaper is its parent then.
LEAVE_AN_ORPHAN = """
import subprocess, sys
print(subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]).pid, flush=True)
"""
PROGRAM = f"""
import subprocess, sys
from orchx.cli.abrupt_end import adopt_orphans, end_abruptly
from orchx.errors import DriverError
adopt_orphans()
subprocess.run([sys.executable, "-c", {LEAVE_AN_ORPHAN!r}])
print(subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]).pid, flush=True)
try:
    end_abruptly(DriverError("Ray is gone"), as_json="--json" in sys.argv)
finally:
    print("Python's own end")
"""


def test_children_and_orphans_end_and_the_error_is_told() -> None:
    ended = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=TIMEOUT_S
    )
    orphan, child = map(int, ended.stdout.split())
    assert not psutil.pid_exists(orphan)
    assert not psutil.pid_exists(child)
    assert ended.returncode == 4
    assert ended.stderr == "error: Ray is gone\n"


def test_nobody_who_reads_the_error_is_no_reason_to_stay() -> None:
    nobody = ["sh", "-c", 'exec "$0" "$@" 2>&-', sys.executable, "-c", PROGRAM]
    ended = subprocess.run(nobody, capture_output=True, text=True, timeout=TIMEOUT_S)
    orphan, child = map(int, ended.stdout.split())
    assert ended.returncode == 4
    assert not psutil.pid_exists(orphan)
    assert not psutil.pid_exists(child)


def test_as_json_where_that_is_wanted() -> None:
    ended = subprocess.run(
        [sys.executable, "-c", PROGRAM, "--json"], capture_output=True, text=True, timeout=TIMEOUT_S
    )
    assert ended.stderr.startswith('{"error":{"type":"DriverError","message":"Ray is gone"')
