"""Processes that outlive the program that started them: told apart, watched and ended by pid.

A pid alone is not enough: the kernel gives it to another process later. So a process is its
pid, when it started and the boot that this counts from, and it is signalled through a
descriptor that the kernel keeps bound to it (`man 2 pidfd_open`). Linux only.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import shutil
import signal
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

# Kafka and MongoDB write what they hold before they end.
STOP_TIMEOUT_S = 20.0
KILL_TIMEOUT_S = 5.0
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
# In /proc/PID/stat after the name, which ends at the last parenthesis: `man 5 proc`.
_STATE_FIELD = 0
_START_FIELD = 19
_ENDED = ("Z", "X")


@dataclass(frozen=True, slots=True, kw_only=True)
class Process:
    """A process, and no later one with the same number."""

    pid: int
    start_ticks: int  # since the boot
    boot_id: str


def process_of(pid: int) -> Process | None:
    """Return the process that has this number now, or None if there is none or it has ended."""
    try:
        process, state = _look_up(pid)
    except OSError:
        return None
    return None if state in _ENDED else process


def is_alive(process: Process) -> bool:
    """Tell whether it is this process that still has its number."""
    return process_of(process.pid) == process


def start(command: Sequence[str], *, log: Path, dies_with_parent: bool) -> Process:
    """Start a program in a session of its own, away from the terminal's Ctrl-C.

    Args:
        command: the program's absolute path and its arguments.
        log: file that standard output and error are added to.
        dies_with_parent: whether the kernel ends it when the calling thread ends, however
            that comes about; where the command `setpriv` is missing, it is not ended.

    Raises:
        OSError: the program cannot be started.
    """
    words = list(command)
    setpriv = shutil.which("setpriv")
    if dies_with_parent and setpriv:
        words = [setpriv, "--pdeathsig", "TERM", *words]
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    pid = os.posix_spawn(
        words[0],
        words,
        os.environ,
        file_actions=[
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, str(log), flags, 0o644),
            (os.POSIX_SPAWN_DUP2, 1, 2),
            # What make or a shell has handed down would stay open as long as the server runs.
            *((os.POSIX_SPAWN_CLOSE, number) for number in _handed_down()),
        ],
        setsid=True,
    )
    return _look_up(pid)[0]  # even if it has ended: it is there until its parent asks about it


def stop(processes: Iterable[Process], *, timeout_s: float = STOP_TIMEOUT_S) -> None:
    """End processes together: SIGTERM, and SIGKILL for those that live on after the timeout.

    Those that have ended already, and others that have their numbers now, are left alone.
    """
    with contextlib.ExitStack() as stack:
        handles: dict[int, Process] = {}
        for process in processes:
            handle = stack.enter_context(_handle(process))
            if handle is not None:
                handles[handle] = process
        for number, patience_s in ((signal.SIGTERM, timeout_s), (signal.SIGKILL, KILL_TIMEOUT_S)):
            for handle in handles:
                with contextlib.suppress(ProcessLookupError):  # it has just ended by itself
                    signal.pidfd_send_signal(handle, number)
            ended = _wait(set(handles), patience_s)
            for handle in ended:
                _reap(handles.pop(handle).pid)


def write_pid_file(path: Path, process: Process) -> None:
    """Write down a process, so that a later program can find and end it."""
    path.write_text(json.dumps(asdict(process)) + "\n")


def read_pid_file(path: Path) -> Process | None:
    """Return the process that was written down, if it still runs."""
    try:
        process = Process(**json.loads(path.read_text()))
    except (OSError, ValueError, TypeError):  # none, or not one of ours
        return None
    return process if is_alive(process) else None


def _look_up(pid: int) -> tuple[Process, str]:
    """Return the process that has this number, and the letter of its state.

    Raises:
        OSError: none has.
    """
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    boot_id = _BOOT_ID.read_text().strip()
    process = Process(pid=pid, start_ticks=int(fields[_START_FIELD]), boot_id=boot_id)
    return process, fields[_STATE_FIELD]


def _handed_down() -> list[int]:
    """List the open files, beside the standard ones, that a new process would inherit."""
    found = []
    for number in (int(name) for name in os.listdir("/proc/self/fd")):
        with contextlib.suppress(OSError):  # the listing's own
            if number > 2 and os.get_inheritable(number):
                found.append(number)
    return found


@contextlib.contextmanager
def _handle(process: Process) -> Iterator[int | None]:
    try:
        handle = os.pidfd_open(process.pid)
    except ProcessLookupError:
        yield None
        return
    try:
        # The descriptor is bound by now: who is checked here is who will be signalled.
        yield handle if is_alive(process) else None
    finally:
        os.close(handle)


def _wait(handles: set[int], timeout_s: float) -> set[int]:
    """Wait until the processes have ended or the time is up; return those that have ended."""
    deadline_s = time.monotonic() + timeout_s
    poll = select.poll()
    for handle in handles:
        poll.register(handle, select.POLLIN)
    ended: set[int] = set()
    while ended != handles and (left_s := deadline_s - time.monotonic()) > 0:
        for handle, _ in poll.poll(left_s * 1000):
            poll.unregister(handle)
            ended.add(handle)
    return ended


def _reap(pid: int) -> None:
    # Only a parent may, and need: of others the system takes care.
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)
