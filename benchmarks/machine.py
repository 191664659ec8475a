"""What machine and code a result belongs to, and the CPU time of a tree of processes."""

from __future__ import annotations

import contextlib
import os
import platform
import subprocess
import time
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """Where and what was measured."""

    cores: int
    memory_gib: float
    cpu: str
    kernel: str
    python: str
    ray: str
    commit: str
    fdatasync_ms: float


def machine(folder: Path) -> dict[str, object]:
    """Return what a result has to be read with; `folder` is on the disk that was used."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return asdict(
        Machine(
            cores=len(os.sched_getaffinity(0)),
            memory_gib=round(memory, 1),
            cpu=_cpu_name(),
            kernel=platform.release(),
            python=platform.python_version(),
            ray=version("ray"),
            commit=_commit(),
            fdatasync_ms=round(fdatasync_ms(folder), 3),
        )
    )


def fdatasync_ms(folder: Path, rounds: int = 50) -> float:
    """Return the median time of a small append with fdatasync, in milliseconds."""
    path = folder / "fdatasync-probe"
    took: list[float] = []
    with path.open("wb") as file:
        for _ in range(rounds):
            begun = time.perf_counter()
            file.write(b"x" * 512)
            file.flush()
            os.fdatasync(file.fileno())
            took.append((time.perf_counter() - begun) * 1000)
    path.unlink()
    return sorted(took)[rounds // 2]


def tree_cpu_s(root: int) -> float:
    """Return the CPU seconds that a process and its living descendants have used."""
    return sum(cpu_s_of(pid) for pid in tree(root))


def cpu_s_of(pid: int) -> float:
    """Return the CPU seconds that a process has used; 0 if it is gone."""
    fields = _stat(pid)
    return (int(fields[11]) + int(fields[12])) / _TICKS_PER_S if fields else 0.0


def tree(root: int) -> dict[int, str]:
    """Return the command lines of a process and its living descendants, by process id."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        fields = _stat(int(entry.name)) if entry.name.isdigit() else []
        if fields:
            children.setdefault(int(fields[1]), []).append(int(entry.name))
    found: dict[int, str] = {}
    todo = [root]
    while todo:
        pid = todo.pop()
        with contextlib.suppress(OSError):
            found[pid] = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
        todo += children.get(pid, [])
    return found


def _stat(pid: int) -> list[str]:
    """Return the fields of a stat file that follow the name, which may hold anything."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


def _cpu_name() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor()


def _commit() -> str:
    here = Path(__file__).parent
    told = subprocess.run(
        ["git", "describe", "--always", "--dirty"],
        cwd=here,
        capture_output=True,
        text=True,
        check=False,
        timeout=10,
    )
    return told.stdout.strip() or "unknown"
