"""A server that is told to stop before it is up: it ends in order, whatever it was at."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e import process_tree
from tests.e2e.conditions import eventually
from tests.e2e.server_process import START_TIMEOUT_S, STOP_TIMEOUT_S


@pytest.mark.slow
@pytest.mark.timeout(200)
@pytest.mark.parametrize("started", ["/raylet/raylet", "ray::WorkflowActor"])
def test_sigterm_while_it_starts_leaves_nothing_behind(started: str, tmp_path: Path) -> None:
    log = tmp_path / "server.log"
    command = [str(Path(sys.executable).with_name("orchx")), "up", "--no-auth", "--port", "0"]
    with log.open("wb") as output:
        server = subprocess.Popen(
            [*command, "--data-dir", str(tmp_path / "data")],
            stdout=output,
            stderr=output,
            env={key: value for key, value in os.environ.items() if not key.startswith("ORCHX_")},
            start_new_session=True,
        )

    def is_there() -> bool:
        assert server.poll() is None, log.read_text()
        members = process_tree.session_members(server.pid).values()
        return any(started in command for command in members)

    try:
        eventually(is_there, started, timeout_s=START_TIMEOUT_S, poll_s=0.005)
        server.send_signal(signal.SIGTERM)
        assert server.wait(STOP_TIMEOUT_S) == 128 + signal.SIGTERM, log.read_text()
        assert process_tree.session_members(server.pid) == {}
    finally:
        process_tree.kill_session(server.pid)
        server.wait(STOP_TIMEOUT_S)
    assert "Traceback" not in log.read_text()
