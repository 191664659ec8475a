"""python -m benchmarks.engine [--json] [--profile kafka]: how fast durable workflows are run.

A workflow of five calls, every step durable with fsync; in-cluster and over HTTP; 1, 64
and 256 at once; each isolation mode. Says what CPU a workflow costs and how many events
per second that is. Takes less than three minutes. The profile `kafka` runs on servers of its
own, beside the engine: their CPU per workflow is a column of its own.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks import in_cluster, over_http, workload
from benchmarks.in_cluster import Measured
from benchmarks.machine import machine
from benchmarks.servers import PROFILES, Servers, servers
from orchx.actors.gateway import open_gateway
from orchx.actors.handles import Handles
from orchx.adapters.definition_source import read_definition
from orchx.adapters.loopback_ports import free_port
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
        with servers(arguments.profile, folder) as stage:
            settings = Settings(
                data_dir=folder / "data",
                task_modules=("benchmarks.workload",),
                definitions=(folder / "workflow.yaml",),
                http=HttpSettings(port=free_port()),
                owners=OwnerSettings(dedicated=DEDICATED_OWNERS),
                admission=AdmissionSettings(tenant_share=1.0),
                log_level="warning",
                **stage.settings,
            )
            with contextlib.redirect_stdout(sys.stderr):  # Ray prints warnings to standard output
                rows = _run(settings, stage, arguments.seconds)
        result = {
            "profile": arguments.profile,
            "machine": machine(folder),
            "seconds_per_run": arguments.seconds,
            "rows": rows,
        }
    _print(result, as_json=arguments.json)
    return 1 if any(row["failed"] for row in rows) else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.engine", description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--profile", choices=PROFILES, default="embedded")
    parser.add_argument("--seconds", type=float, default=RUN_S, help="per measurement")
    parser.add_argument("--data-dir", type=Path, default=Path.cwd(), help="the disk to measure on")
    return parser.parse_args()


def _run(settings: Settings, stage: Servers, duration_s: float) -> list[Row]:
    running = start_server(settings)
    try:
        rows = asyncio.run(_in_cluster(settings, duration_s, stage))
        if shutil.which("wrk") is not None:
            rows += list(_over_http(running.url, running.admin_key or "", duration_s, stage))
        else:
            print("wrk is not installed: nothing is measured over HTTP", file=sys.stderr)
        return rows
    finally:
        stop_server(settings)


async def _in_cluster(settings: Settings, duration_s: float, stage: Servers) -> list[Row]:
    cpu_s = stage.engine_cpu_s
    handles = Handles(settings)
    gateway, mail = open_gateway(settings, handles)
    digest = read_definition(workload.DEFINITION).digest
    rows: list[Row] = []
    for isolation in ISOLATIONS:
        await in_cluster.measure(
            gateway, digest, at_once=8, duration_s=WARM_UP_S, isolation=isolation, cpu_s=cpu_s
        )
        for at_once in AT_ONCE:
            servers_cpu_s = stage.cpu_s()
            measured = await in_cluster.measure(
                gateway,
                digest,
                at_once=at_once,
                duration_s=duration_s,
                isolation=isolation,
                cpu_s=cpu_s,
            )
            used_s = stage.cpu_s() - servers_cpu_s
            rows.append(_row("in-cluster", isolation, at_once, measured, used_s))
    mail.close()
    return rows


def _over_http(url: str, key: str, duration_s: float, stage: Servers) -> Iterator[Row]:
    cpu_s = stage.engine_cpu_s
    for isolation in ISOLATIONS:
        over_http.measure(
            url, key, at_once=8, duration_s=WARM_UP_S, isolation=isolation, cpu_s=cpu_s
        )
        for at_once in AT_ONCE:
            servers_cpu_s = stage.cpu_s()
            measured = over_http.measure(
                url, key, at_once=at_once, duration_s=duration_s, isolation=isolation, cpu_s=cpu_s
            )
            used_s = stage.cpu_s() - servers_cpu_s
            yield _row("http", isolation, at_once, measured, used_s)


def _row(
    path: str, isolation: Isolation, at_once: int, measured: Measured, servers_cpu_s: float
) -> Row:
    events_per_s = round(measured.per_s * EVENTS_PER_WORKFLOW)
    return {
        "path": path,
        "isolation": isolation,
        "at_once": at_once,
        **asdict(measured),
        "servers_cpu_ms_per_workflow": round(servers_cpu_s * 1000 / max(1, measured.workflows), 2),
        "events_per_s": events_per_s,
    }


def _print(result: dict[str, object], *, as_json: bool) -> None:
    if as_json:
        print(json.dumps(result, indent=1))
        return
    table = Table(
        *("path", "isolation", "at once", "workflows/s", "p50 ms", "p99 ms", "CPU ms"),
        *("servers' CPU ms", "failed"),
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
                    "servers_cpu_ms_per_workflow",
                    "failed",
                )
            )
        )
    console = Console(width=110)
    console.print(table)
    console.print(result["machine"])


if __name__ == "__main__":
    begun = time.monotonic()
    code = main()
    print(f"took {time.monotonic() - begun:.0f} s", file=sys.stderr)
    sys.exit(code)
