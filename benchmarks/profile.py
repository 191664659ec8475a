"""python -m benchmarks.profile [--at-once N]: where the engine's CPU goes under load over HTTP.

Runs the workflow of `benchmarks.engine` with wrk, samples every process of the engine with
py-spy meanwhile, and prints each one's share of the CPU and its dearest functions: how
often a function was on the stack at all (`total`), and how often on top (`self`).
"""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks import over_http, workload
from benchmarks.in_cluster import Measured
from benchmarks.machine import cpu_s_of, tree
from benchmarks.servers import PROFILES, Servers, servers
from orchx.adapters.loopback_ports import free_port
from orchx.serve.server import Running, start_server, stop_server
from orchx.settings import AdmissionSettings, HttpSettings, Settings

WARM_UP_S = 4.0
SAMPLES_PER_S = 200
SHOWN = 14
_LINE = re.compile(r":\d+\)$")


@dataclass(frozen=True, slots=True)
class Profile:
    """One process: its CPU seconds, and how many samples each function was seen in."""

    name: str
    cpu_s: float
    samples: int
    total: Counter[str]
    top: Counter[str]


def main() -> int:
    """Run and print; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.profile", description=__doc__)
    parser.add_argument("--at-once", type=int, default=64, help="wrk's connections")
    parser.add_argument("--profile", choices=PROFILES, default="embedded")
    parser.add_argument("--seconds", type=float, default=10.0, help="of sampling")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=Path.cwd(), prefix="orchx-bench-") as name:
        folder = Path(name)
        (folder / "workflow.yaml").write_text(workload.DEFINITION)
        with servers(arguments.profile, folder) as stage:
            settings = Settings(
                data_dir=folder / "data",
                task_modules=("benchmarks.workload",),
                definitions=(folder / "workflow.yaml",),
                http=HttpSettings(port=free_port()),
                admission=AdmissionSettings(tenant_share=1.0),
                log_level="warning",
                **stage.settings,
            )
            with contextlib.redirect_stdout(sys.stderr):  # Ray prints warnings to standard output
                running = start_server(settings)
                try:
                    profiles = _profiles(
                        running, stage, folder, arguments.at_once, arguments.seconds
                    )
                finally:
                    stop_server(settings)
    _print(profiles)
    return 0


def _profiles(
    running: Running, stage: Servers, folder: Path, at_once: int, duration_s: float
) -> list[Profile]:
    key = running.admin_key or ""

    def load(load_s: float) -> Measured:
        return over_http.measure(
            running.url,
            key,
            at_once=at_once,
            duration_s=load_s,
            isolation="shared",
            cpu_s=stage.engine_cpu_s,
        )

    load(WARM_UP_S)
    names = _processes(running)
    before = {pid: cpu_s_of(pid) for pid in (*names, *stage.pids)}
    spies = [_spy(pid, folder, duration_s) for pid in names]
    measured = load(duration_s + 1.0)
    for spy in spies:
        spy.wait(duration_s + 30)
    print(f"{measured.per_s:g} workflows/s while sampled", file=sys.stderr)
    return [
        _profile(name, cpu_s_of(pid) - before[pid], folder / f"{pid}.txt")
        for pid, name in (*names.items(), *stage.pids.items())
    ]


def _processes(running: Running) -> Mapping[int, str]:
    """Return the processes of actors and ingestion replicas, by id."""
    names = {int(pid): name for name, pid in running.pids.items()}
    for pid, command in tree(os.getpid()).items():
        if "ServeReplica" in command:
            names[pid] = "ingestion"
    return names


def _spy(pid: int, folder: Path, duration_s: float) -> subprocess.Popen[bytes]:
    program = Path(sys.executable).with_name("py-spy")
    return subprocess.Popen(
        [str(program), "record", "--pid", str(pid), "--duration", f"{duration_s:g}",
         "--rate", str(SAMPLES_PER_S), "--format", "raw", "--nonblocking", "--threads",
         "--output", str(folder / f"{pid}.txt")],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )  # fmt: skip


def _profile(name: str, cpu_s: float, path: Path) -> Profile:
    samples, total, top = 0, Counter[str](), Counter[str]()
    for line in path.read_text().splitlines() if path.exists() else ():
        stack, _, count = line.rpartition(" ")
        frames = [_LINE.sub(")", f) for f in stack.split(";")[1:] if "(threading.py" not in f]
        if not frames:
            continue  # a thread of Ray's or SQLite's own, or one that just waits
        samples += int(count)
        top[frames[-1]] += int(count)
        for frame in set(frames):
            total[frame] += int(count)
    return Profile(name, cpu_s, samples, total, top)


def _print(profiles: list[Profile]) -> None:
    console = Console(width=110)
    used_s = sum(profile.cpu_s for profile in profiles)
    for profile in sorted(profiles, key=lambda p: -p.cpu_s):
        share = profile.cpu_s / used_s if used_s else 0.0
        title = f"{profile.name}: {profile.cpu_s:.2f} CPU s, {share:.0%} of all"
        table = Table("total", "self", "function", title=title, title_justify="left")
        for frame, count in profile.total.most_common(SHOWN if share > 0.02 else 0):
            table.add_row(
                f"{count / profile.samples:.0%}",
                f"{profile.top[frame] / profile.samples:.0%}",
                frame,
            )
        console.print(table)


if __name__ == "__main__":
    sys.exit(main())
