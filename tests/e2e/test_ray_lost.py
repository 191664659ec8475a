"""A server whose Ray has died ends by itself, so that whoever watches over it starts it anew."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from tests.e2e import process_tree
from tests.e2e.conditions import eventually
from tests.e2e.server_process import ServerProcess

NOTICED_S = 10.0  # far less than Ray needs to shut down without its GCS


@pytest.mark.slow
@pytest.mark.timeout(200)
@pytest.mark.parametrize("titles", [["raylet/raylet"], ["gcs_server", "raylet/raylet"]])
def test_up_ends_with_its_raylet_and_says_why(tmp_path: Path, titles: list[str]) -> None:
    server = ServerProcess(tmp_path)
    server.start()
    try:
        for pid in [pid for title in titles for pid in server.pids_titled(title)[:1]]:
            os.kill(pid, signal.SIGKILL)
        eventually(
            lambda: not process_tree.session_members(server.session),
            "the end of all that would hold a port when it is started again",
            timeout_s=NOTICED_S,
        )
    finally:
        server.kill()
    assert "its raylet) has ended" in server.log()
