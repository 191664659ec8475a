"""The README's first steps, as they stand there, and what `make up` says to type."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from orchx.adapters.loopback_ports import free_port
from tests.e2e import process_tree
from tests.e2e.conditions import eventually
from tests.e2e.server_process import ROOT, START_TIMEOUT_S, STOP_TIMEOUT_S

STEPS_TIMEOUT_S = 120
# Of whoever runs the tests, or of the `make` that does: not a new user's.
FOREIGN = re.compile(r"ORCHX_|MAKE|MFLAGS|VIRTUAL_ENV")

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


def blocks(language: str) -> list[str]:
    """Return the fenced blocks of the README's section about a server of one's own."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    section = text.partition("\n## A server of your own\n")[2].partition("\n## ")[0]
    return re.findall(rf"^```{language}\n(.*?)^```$", section, re.DOTALL | re.MULTILINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class FirstTerminal:
    """Where the server runs, and what it has printed there."""

    output: Path
    environment: Mapping[str, str]

    def run_in_another(self, script: str) -> str:
        """Run what somebody types in a second terminal, and return what it prints."""
        done = subprocess.run(
            ["bash", "-e", "-u", "-o", "pipefail", "-c", script],
            cwd=ROOT,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=STEPS_TIMEOUT_S,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr + self.output.read_text()
        return done.stdout


@pytest.fixture(scope="module")
def terminal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FirstTerminal]:
    """The README's first command, with ports and a data folder of the test's own."""
    folder = tmp_path_factory.mktemp("readme")
    port = free_port()
    own = {
        "ORCHX_HTTP__PORT": str(port),
        "ORCHX_SANDBOX_PORT": str(free_port()),
        "ORCHX_DATA_DIR": str(folder / "data"),
        "ORCHX_URL": f"http://127.0.0.1:{port}",
    }
    inherited = {key: value for key, value in os.environ.items() if not FOREIGN.match(key)}
    terminal = FirstTerminal(output=folder / "terminal.txt", environment={**inherited, **own})
    first, *_ = blocks("sh")
    with terminal.output.open("wb") as output:
        server = subprocess.Popen(
            ["bash", "-c", first],
            cwd=ROOT,
            env=terminal.environment,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        eventually(lambda: is_up(server, terminal), "`make up`", timeout_s=START_TIMEOUT_S)
        yield terminal
        os.killpg(server.pid, signal.SIGINT)
        server.wait(STOP_TIMEOUT_S)
        assert process_tree.session_members(server.pid) == {}
    finally:
        process_tree.kill_session(server.pid)
        server.wait(STOP_TIMEOUT_S)


def is_up(server: subprocess.Popen[bytes], terminal: FirstTerminal) -> bool:
    said = terminal.output.read_text()
    assert server.poll() is None, said
    return "Ctrl-C stops it." in said


def test_the_steps_work_as_they_stand_there(terminal: FirstTerminal) -> None:
    _, steps = blocks("sh")
    program, *_ = blocks("python")
    printed = terminal.run_in_another(f"{steps}\npython - <<'EOF'\n{program}\nEOF\n")
    assert "reimbursement_id" in printed
    assert re.search(r'"decided_by": "Grace"', printed)
    assert printed.splitlines()[-1] == "completed"


def test_what_the_server_says_to_type_works_too(terminal: FirstTerminal) -> None:
    said = terminal.output.read_text()
    typed = [line for line in said.splitlines() if line.startswith("  ")]
    assert any(line.startswith("  .venv/bin/orchx submit ") for line in typed), said
    assert "completed" in terminal.run_in_another("\n".join(typed))
    url = terminal.environment["ORCHX_URL"]
    assert httpx.get(f"{url}/v1/workflows").status_code == 401, "a key was needed for that"
