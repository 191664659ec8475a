"""The sandbox as a child process: it outlives nobody who started it."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from orchx.sandbox.process import STOP_TIMEOUT_S, SandboxProcess


def test_it_ends_with_whoever_holds_the_other_end_of_its_input(tmp_path: Path) -> None:
    with SandboxProcess(tmp_path) as sandbox:
        assert sandbox.process.stdin is not None
        sandbox.process.stdin.close()  # as the kernel does for a process that was killed
        assert sandbox.process.wait(STOP_TIMEOUT_S) == 0


def test_the_terminals_ctrl_c_does_not_reach_it(tmp_path: Path) -> None:
    with SandboxProcess(tmp_path) as sandbox:
        assert os.getpgid(sandbox.process.pid) != os.getpgid(0)
        sandbox.process.send_signal(signal.SIGINT)  # what is sent to it alone does
        assert sandbox.process.wait(STOP_TIMEOUT_S) == 0
