"""python -m benchmarks.rebuild [--workflows 100000] [--json]: how long a rebuild takes.

The turns of that many workflows of five tasks are appended to the log, as an engine would have
written them. Then everything is made from them in its place (`orchx rebuild --replace`), and
made once more beside that and compared (`orchx rebuild`), on servers of the benchmark's own.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import resource
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from benchmarks.machine import machine
from benchmarks.servers import PROFILES, ProfileName, servers
from orchx.domain.events import Record
from orchx.maintenance.replacing import replace
from orchx.maintenance.verifying import verify
from orchx.settings import Settings
from orchx.stores import open_stores, prepare_stores
from orchx.testing.made_histories import appends, mixed_histories

AT_ONCE: Final = 500  # workflows under way at the same time
APPENDS_AT_ONCE: Final = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What was measured; `peak_bytes` is the largest memory of this process (RSS)."""

    workflows: int
    records: int
    writing_s: float
    replacing_s: float
    projecting_s: float
    comparing_s: float
    equal: bool
    stores: Sequence[dict[str, Any]]
    peak_bytes: int
    servers_cpu_s: float
    own_cpu_s: float


async def write(settings: Settings, workflows: int) -> None:
    """Append the turns of so many workflows to the log."""
    log = open_stores(settings).event_log()
    under_way: set[asyncio.Task[None]] = set()

    async def append(records: list[Record]) -> None:
        await log.append(records)

    try:
        await log.partitions()  # it is connected, so that appends keep their order from now on
        for records in appends(mixed_histories(workflows, side_by_side=AT_ONCE)):
            under_way.add(asyncio.create_task(append(records)))
            if len(under_way) >= APPENDS_AT_ONCE:
                await asyncio.gather(*under_way)
                under_way.clear()
        await asyncio.gather(*under_way)
    finally:
        await log.close()


async def measure(settings: Settings, workflows: int) -> dict[str, Any]:
    """Write, replace, verify; return the times and what was found."""
    settings = await prepare_stores(settings)
    presence = open_stores(settings).presence()
    if presence is not None:
        await presence.leave("engine")
    begun_s = time.monotonic()
    await write(settings, workflows)
    writing_s = time.monotonic() - begun_s
    _say(f"written in {writing_s:.1f} s")
    replaced = await replace(settings, webhooks="skip")
    _say(f"replaced in {replaced.took_s:.1f} s")
    verdict = await verify(settings)
    return {
        "records": verdict.records,
        "writing_s": round(writing_s, 2),
        "replacing_s": round(replaced.took_s, 2),
        "projecting_s": round(verdict.projecting_s, 2),
        "comparing_s": round(verdict.comparing_s, 2),
        "equal": verdict.equal and sum(replaced.workflows.values()) == workflows,
        "stores": [
            {
                "store": tally.store,
                "live": tally.live,
                "rebuilt": tally.rebuilt,
                "equal": tally.equal,
                "differing": tally.differing,
            }
            for tally in verdict.stores
        ],
    }


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def main() -> int:
    """Run servers, measure, print; returns the exit code: 1 if something differs."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.rebuild", description=__doc__)
    parser.add_argument("--workflows", type=int, default=100_000)
    parser.add_argument("--profile", choices=PROFILES, default="kafka")
    parser.add_argument("--json", action="store_true", help="print all of it as JSON")
    options = parser.parse_args()
    profile: ProfileName = options.profile
    with tempfile.TemporaryDirectory(prefix="orchx-rebuild-") as name:
        folder = Path(name)
        with servers(profile, folder) as there:
            settings = Settings(data_dir=folder / "data", **there.settings)
            found = asyncio.run(measure(settings, options.workflows))
            usage = resource.getrusage(resource.RUSAGE_SELF)
            report = Report(
                workflows=options.workflows,
                peak_bytes=usage.ru_maxrss * 1024,
                servers_cpu_s=round(there.cpu_s(), 1),
                own_cpu_s=round(usage.ru_utime + usage.ru_stime, 1),
                **found,
            )
        result = {"profile": profile, **asdict(report), "machine": machine(folder)}
    if options.json:
        print(json.dumps(result, indent=2))
    else:
        print(
            f"{report.workflows:,} workflows, {report.records:,} records: replaced in "
            f"{report.replacing_s:.1f} s; rebuilt beside in {report.projecting_s:.1f} s and "
            f"compared in {report.comparing_s:.1f} s: {'equal' if report.equal else 'NOT equal'}"
        )
    return 0 if report.equal else 1


if __name__ == "__main__":
    raise SystemExit(main())
