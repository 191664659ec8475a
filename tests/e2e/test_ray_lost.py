"""A server whose Ray has died ends by itself, so that whoever watches over it starts it anew."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from tests.e2e import process_tree
from tests.e2e.conditions import eventually
from tests.e2e.server_process import ServerProcess

NOTICED_S = 60.0


@pytest.mark.slow
@pytest.mark.timeout(200)
def test_up_ends_with_its_raylet_and_says_why(tmp_path: Path) -> None:
    server = ServerProcess(tmp_path)
    server.start()
    try:
        [raylet] = server.pids_titled("raylet/raylet")
        os.kill(raylet, signal.SIGKILL)
        eventually(
            lambda: not process_tree.session_members(server.session),
            "the end of all that was started",
            timeout_s=NOTICED_S,
        )
    finally:
        server.kill()
    assert "its raylet) has ended" in server.log()
