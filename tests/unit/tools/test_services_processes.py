import dataclasses
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tools.services.processes import (
    Process,
    is_alive,
    process_of,
    read_pid_file,
    start,
    stop,
    write_pid_file,
)

STAYS = ("/bin/sh", "-c", "exec tail -f /dev/null")
IGNORES_SIGTERM = ("/bin/sh", "-c", "trap '' TERM; echo deaf; exec tail -f /dev/null")
PATIENCE_S = 20.0
POLL_INTERVAL_S = 0.01


@pytest.fixture
def started(tmp_path: Path) -> Iterator[Callable[..., Process]]:
    """Starts programs, and ends those that the test leaves."""
    running: list[Process] = []

    def run(command: tuple[str, ...] = STAYS) -> Process:
        running.append(start(command, log=tmp_path / "log", dies_with_parent=False))
        return running[-1]

    yield run
    stop(running, timeout_s=0)


def eventually(condition: Callable[[], bool]) -> bool:
    """Wait for something that other processes bring about."""
    deadline_s = time.monotonic() + PATIENCE_S
    pause = threading.Event()
    while not condition():
        if time.monotonic() > deadline_s:
            return False
        pause.wait(POLL_INTERVAL_S)
    return True


def test_a_process_is_ended_and_found_no_more(
    tmp_path: Path, started: Callable[..., Process]
) -> None:
    process = started()
    write_pid_file(tmp_path / "pid", process)
    assert read_pid_file(tmp_path / "pid") == process

    stop([process])

    assert not is_alive(process)
    assert read_pid_file(tmp_path / "pid") is None


@pytest.mark.parametrize(
    "earlier",
    [
        lambda process: dataclasses.replace(process, start_ticks=process.start_ticks - 1),
        lambda process: dataclasses.replace(process, boot_id="an earlier boot"),
    ],
    ids=["started earlier", "before the boot"],
)
def test_another_process_with_the_same_pid_is_neither_found_nor_ended(
    tmp_path: Path,
    started: Callable[..., Process],
    earlier: Callable[[Process], Process],
) -> None:
    process = started()
    write_pid_file(tmp_path / "pid", earlier(process))

    assert read_pid_file(tmp_path / "pid") is None
    stop([earlier(process)])

    assert is_alive(process)


def test_one_that_ignores_sigterm_is_killed_and_the_others_do_not_wait_for_it(
    tmp_path: Path, started: Callable[..., Process]
) -> None:
    deaf, polite = started(IGNORES_SIGTERM), started()
    assert eventually(lambda: "deaf" in (tmp_path / "log").read_text())

    stop([deaf, polite], timeout_s=0.2)

    assert not is_alive(deaf)
    assert not is_alive(polite)


def test_stopping_what_has_ended_does_nothing(started: Callable[..., Process]) -> None:
    process = started()
    stop([process])

    stop([process])


def test_an_ended_child_counts_as_ended_before_anybody_asked_about_it(
    started: Callable[..., Process],
) -> None:
    process = started()
    os.kill(process.pid, signal.SIGKILL)

    assert eventually(lambda: not is_alive(process))
    assert process_of(process.pid) is None


@pytest.mark.parametrize("content", ["", "4711\n", '{"pid": 1}', "[]"])
def test_a_pid_file_of_another_form_names_nobody(tmp_path: Path, content: str) -> None:
    (tmp_path / "pid").write_text(content)

    assert read_pid_file(tmp_path / "pid") is None


def test_a_missing_pid_file_names_nobody(tmp_path: Path) -> None:
    assert read_pid_file(tmp_path / "pid") is None


def test_a_program_that_is_not_there_cannot_be_started(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="no-such-program"):
        start((str(tmp_path / "no-such-program"),), log=tmp_path / "log", dies_with_parent=False)


def test_a_process_has_a_session_of_its_own_and_nothing_of_its_parent(
    tmp_path: Path, started: Callable[..., Process]
) -> None:
    readable, writable = os.pipe()
    os.set_inheritable(writable, True)
    os.set_blocking(readable, False)
    process = started()
    os.close(writable)

    assert os.getsid(process.pid) == process.pid
    assert os.read(readable, 1) == b""  # nobody else holds the other end
    os.close(readable)


@pytest.mark.skipif(shutil.which("setpriv") is None, reason="setpriv is not installed")
def test_a_process_ends_with_its_parent_even_when_that_is_killed(tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    program = (
        "import os, signal\n"
        "from pathlib import Path\n"
        "from tools.services.processes import start, write_pid_file\n"
        f"process = start({STAYS!r}, log=Path({str(tmp_path / 'log')!r}), dies_with_parent=True)\n"
        f"write_pid_file(Path({str(pid_file)!r}), process)\n"
        "input()\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    root = Path(__file__).resolve().parents[3]
    parent = subprocess.Popen([sys.executable, "-c", program], cwd=root, stdin=subprocess.PIPE)
    # The program behind setpriv runs when its own name is seen.
    assert eventually(lambda: pid_file.exists() and _name_of(read_pid_file(pid_file)) == "tail")
    process = read_pid_file(pid_file)
    assert process is not None

    parent.communicate(b"\n")

    assert parent.returncode == -signal.SIGKILL
    assert eventually(lambda: not is_alive(process))


def _name_of(process: Process | None) -> str:
    return Path(f"/proc/{process.pid}/comm").read_text().strip() if process else ""
