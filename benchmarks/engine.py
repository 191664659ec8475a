"""python -m benchmarks.engine [--json] [--quick]: how fast the engine runs durable workflows.

A workflow of five calls, every step durable with fsync; in-cluster and over HTTP; 1, 64
and 256 at once; each isolation mode. Says what CPU a workflow costs and how many events
per second that is. Takes less than three minutes.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks import in_cluster, over_http, workload
from benchmarks.in_cluster import Measured
from benchmarks.machine import machine, tree_cpu_s
from orchx.actors.cluster import free_port
from orchx.actors.gateway import open_gateway
from orchx.actors.handles import Handles
from orchx.adapters.definition_source import read_definition
from orchx.engine.placement import Isolation
from orchx.serve.server import start_server, stop_server
from orchx.settings import AdmissionSettings, HttpSettings, OwnerSettings, Settings

# Per workflow: activated, started, five calls begun and ended, completed.
EVENTS_PER_WORKFLOW = 3 + 2 * workload.TASKS
DEDICATED_OWNERS = 16
ISOLATIONS: tuple[Isolation, ...] = ("shared", "auto", "dedicated")
AT_ONCE = (1, 64, 256)
RUN_S = 5.0
WARM_UP_S = 2.0

Row = dict[str, object]


def main() -> int:
    """Run and print; returns the exit code."""
    arguments = _arguments()
    with tempfile.TemporaryDirectory(dir=arguments.data_dir, prefix="orchx-bench-") as name:
        folder = Path(name)
        (folder / "workflow.yaml").write_text(workload.DEFINITION)
        settings = Settings(
            data_dir=folder / "data",
            task_modules=("benchmarks.workload",),
            definitions=(folder / "workflow.yaml",),
            http=HttpSettings(port=free_port()),
            owners=OwnerSettings(dedicated=DEDICATED_OWNERS),
            admission=AdmissionSettings(tenant_share=1.0),
            log_level="warning",
        )
        with contextlib.redirect_stdout(sys.stderr):  # Ray prints warnings to standard output
            rows = _run(settings, arguments.seconds, has_wrk=shutil.which("wrk") is not None)
        result = {"machine": machine(folder), "seconds_per_run": arguments.seconds, "rows": rows}
    _print(result, as_json=arguments.json)
    return 1 if any(row["failed"] for row in rows) else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.engine", description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--seconds", type=float, default=RUN_S, help="per measurement")
    parser.add_argument("--data-dir", type=Path, default=Path.cwd(), help="the disk to measure on")
    return parser.parse_args()


def _run(settings: Settings, duration_s: float, *, has_wrk: bool) -> list[Row]:
    running = start_server(settings)
    try:

        def cpu_s() -> float:
            return tree_cpu_s(os.getpid())

        rows = asyncio.run(_in_cluster(settings, duration_s, cpu_s))
        if has_wrk:
            rows += list(_over_http(running.url, running.admin_key or "", duration_s, cpu_s))
        else:
            print("wrk is not installed: nothing is measured over HTTP", file=sys.stderr)
        return rows
    finally:
        stop_server(settings)


async def _in_cluster(
    settings: Settings, duration_s: float, cpu_s: Callable[[], float]
) -> list[Row]:
    handles = Handles(settings)
    gateway, mail = open_gateway(settings, handles)
    digest = read_definition(workload.DEFINITION).digest
    rows: list[Row] = []
    for isolation in ISOLATIONS:
        await in_cluster.measure(
            gateway, digest, at_once=8, duration_s=WARM_UP_S, isolation=isolation, cpu_s=cpu_s
        )
        for at_once in AT_ONCE:
            measured = await in_cluster.measure(
                gateway,
                digest,
                at_once=at_once,
                duration_s=duration_s,
                isolation=isolation,
                cpu_s=cpu_s,
            )
            rows.append(_row("in-cluster", isolation, at_once, measured))
    mail.close()
    return rows


def _over_http(url: str, key: str, duration_s: float, cpu_s: Callable[[], float]) -> Iterator[Row]:
    for isolation in ISOLATIONS:
        over_http.measure(
            url, key, at_once=8, duration_s=WARM_UP_S, isolation=isolation, cpu_s=cpu_s
        )
        for at_once in AT_ONCE:
            measured = over_http.measure(
                url, key, at_once=at_once, duration_s=duration_s, isolation=isolation, cpu_s=cpu_s
            )
            yield _row("http", isolation, at_once, measured)


def _row(path: str, isolation: Isolation, at_once: int, measured: Measured) -> Row:
    events_per_s = round(measured.per_s * EVENTS_PER_WORKFLOW)
    return {
        "path": path,
        "isolation": isolation,
        "at_once": at_once,
        **asdict(measured),
        "events_per_s": events_per_s,
    }


def _print(result: dict[str, object], *, as_json: bool) -> None:
    if as_json:
        print(json.dumps(result, indent=1))
        return
    table = Table(
        "path", "isolation", "at once", "workflows/s", "p50 ms", "p99 ms", "CPU ms", "failed"
    )
    rows = result["rows"]
    for row in rows if isinstance(rows, list) else ():
        table.add_row(
            *(
                str(row[key])
                for key in (
                    "path",
                    "isolation",
                    "at_once",
                    "per_s",
                    "p50_ms",
                    "p99_ms",
                    "cpu_ms_per_workflow",
                    "failed",
                )
            )
        )
    console = Console()
    console.print(table)
    console.print(result["machine"])


if __name__ == "__main__":
    begun = time.monotonic()
    code = main()
    print(f"took {time.monotonic() - begun:.0f} s", file=sys.stderr)
    sys.exit(code)
