"""The processes of one session, read from /proc: whatever a server has started, orphans too."""

from __future__ import annotations

import contextlib
import os
import signal
from pathlib import Path

from tests.e2e.conditions import eventually

END_TIMEOUT_S = 20.0


def session_members(session: int) -> dict[int, str]:
    """Return the command lines of the living processes of a session, by process id.

    Ray puts its workers into process groups of their own, and a killed parent leaves orphans:
    the session is what they all keep.
    """
    members: dict[int, str] = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            state, _, _, its_session = _stat(entry)[:4]
            if int(its_session) == session and state not in "ZX":
                command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
                members[int(entry.name)] = command.strip()
        except (FileNotFoundError, ProcessLookupError):
            continue  # it has just ended
    return members


def title(pid: int) -> str:
    """Return a process's command line; empty if it has ended."""
    try:
        return (Path("/proc") / str(pid) / "cmdline").read_bytes().replace(b"\0", b" ").decode()
    except (FileNotFoundError, ProcessLookupError):
        return ""


def niceness(pid: int) -> int:
    """Return how much those threads of a process yield to others that yield most: 19 at most.

    On Linux each thread has its own, and those that it starts have the same.
    """
    threads = [int(entry.name) for entry in Path(f"/proc/{pid}/task").iterdir()]
    return max(os.getpriority(os.PRIO_PROCESS, thread) for thread in threads)


def is_alive(pid: int) -> bool:
    """Return whether a process lives and is no zombie."""
    try:
        return _stat(Path("/proc") / str(pid))[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def kill(pid: int) -> None:
    """End a process as a crash would, and wait until it is gone."""
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return
    eventually(lambda: not is_alive(pid), f"the end of process {pid}", timeout_s=END_TIMEOUT_S)


def freeze(pid: int) -> None:
    """Stop a process where it is, and wait until it stands."""
    os.kill(pid, signal.SIGSTOP)
    stat = Path("/proc") / str(pid)
    eventually(lambda: _stat(stat)[0] == "T", f"process {pid} to stop", timeout_s=END_TIMEOUT_S)


def holds_lock(pid: int, path: Path) -> bool:
    """Return whether a process holds the `flock` on a file; waiting for it does not count."""
    inode = str(path.stat().st_ino)
    for line in Path("/proc/locks").read_text().splitlines():
        kind, _, _, holder, file = line.split()[1:6]  # "->" stands there for one that waits
        if kind == "FLOCK" and holder == str(pid) and file.rpartition(":")[2] == inode:
            return True
    return False


def thaw(pid: int) -> None:
    """Let a stopped process go on, unless it has been killed meanwhile."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGCONT)


def freeze_session(session: int) -> list[int]:
    """Stop every process of a session where it is; return them, to be thawed."""
    frozen: list[int] = []

    def everyone_stands() -> bool:
        moving = [pid for pid in session_members(session) if pid not in frozen]
        for pid in moving:
            freeze(pid)
        frozen.extend(moving)
        return not moving

    eventually(everyone_stands, f"session {session} to stop", timeout_s=END_TIMEOUT_S)
    return frozen


def kill_session(session: int) -> None:
    """End every process of a session at once, and those that they start meanwhile."""

    def nobody_left() -> bool:
        members = session_members(session)
        for pid in members:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        return not members

    eventually(nobody_left, f"the end of session {session}", timeout_s=END_TIMEOUT_S)


def _stat(entry: Path) -> list[str]:
    """Return the fields of a stat file that follow the name, which may hold anything."""
    return (entry / "stat").read_text().rpartition(")")[2].split()
