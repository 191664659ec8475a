"""python -m benchmarks.waiting [--workflows 1000]: what workflows that wait on a person cost.

Memory of each process while they wait, against idle (both after a round of warming up), and
how soon one wakes: from the POST of its event to its next record in the log. Prints JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.machine import machine
from orchx.adapters.loopback_ports import free_port
from orchx.adapters.sqlite_event_log import SqliteEventLog
from orchx.client import AsyncClient
from orchx.serve.server import start_server, stop_server
from orchx.settings import AdmissionSettings, HttpSettings, Settings

DEFINITION = """\
document: {dsl: '1.0.3', namespace: waiting, name: approval, version: '1.0.0'}
do:
  - decide:
      listen:
        to: {one: {with: {type: com.example.decision}}}
  - note:
      set: {approved: '${ .[0].approved }'}
"""
BATCH = 500
SAMPLES = 1_000
POLL_S = 0.05
LOG_POLL_S = 0.001
TIMEOUT_S = 120.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """Memory in bytes (USS) by process; growth is waiting over idle, less one."""

    workflows: int
    idle_bytes: Mapping[str, int]
    waiting_bytes: Mapping[str, int]
    growth: Mapping[str, float]
    passivated_s: float
    wake_ms_p50: float
    wake_ms_p99: float
    wake_ms_max: float
    samples: int

    def owners_growth(self) -> float:
        """Return the growth of all owners together."""
        idle, waiting = (
            sum(size for name, size in sizes.items() if name.startswith("owner-"))
            for sizes in (self.idle_bytes, self.waiting_bytes)
        )
        return waiting / idle - 1


def memory_bytes(pid: int) -> int:
    """Return the memory that a process has to itself (USS)."""
    kilobytes = 0
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        name, _, rest = line.partition(":")
        if name.startswith("Private_"):
            kilobytes += int(rest.split()[0])
    return kilobytes * 1024


class Waiting:
    """Starts workflows that wait, lets them be, wakes them.

    Args:
        client: of a server that does nothing else.
        log: the server's event log file.
        pids: the processes to be measured, by name.
    """

    def __init__(self, client: AsyncClient, log: Path, pids: Mapping[str, int]) -> None:
        self._client = client
        self._log = log
        self._pids = pids
        self._round = 0

    async def measure(self, workflows: int, samples: int = SAMPLES) -> Report:
        """Warm up with as many as will be measured, then measure."""
        await self._client.definitions.publish(DEFINITION)
        await self._wake_all(await self._start(workflows))
        idle = self._memory()
        begun_s = time.monotonic()
        ids = await self._start(workflows)
        passivated_s = time.monotonic() - begun_s
        waiting = self._memory()
        wakes_ms = await self._wake_some(ids[:: max(1, len(ids) // samples)][:samples])
        await self._wake_all(ids)
        return Report(
            workflows=workflows,
            idle_bytes=idle,
            waiting_bytes=waiting,
            growth={name: round(waiting[name] / idle[name] - 1, 4) for name in idle},
            passivated_s=round(passivated_s, 2),
            wake_ms_p50=wakes_ms[len(wakes_ms) // 2],
            wake_ms_p99=wakes_ms[math.ceil(len(wakes_ms) * 0.99) - 1],
            wake_ms_max=wakes_ms[-1],
            samples=len(wakes_ms),
        )

    async def _start(self, count: int) -> Sequence[str]:
        """Start workflows and return their ids once all are passivated."""
        self._round += 1
        request = {"definition": {"namespace": "waiting", "name": "approval"}}
        ids: list[str] = []
        for first in range(0, count, BATCH):
            batch = [request] * min(BATCH, count - first)
            key = f"waiting-{self._round}-{first}-{time.time_ns()}"
            ids += [one.id for one in await self._client.submit_batch(batch, key=key)]
        await self._all_are(ids, "waiting")
        return ids

    async def _wake_all(self, ids: Sequence[str]) -> None:
        """Wake with one event all that still wait."""
        await self._client.broadcast("com.example.decision", {"approved": True})
        await self._all_are(ids, "completed")

    async def _wake_some(self, ids: Sequence[str]) -> list[float]:
        """Wake one after the other; return how long each took, in milliseconds, sorted."""
        log = SqliteEventLog(self._log, read_only=True)
        try:
            return sorted([await self._wake(log, workflow_id) for workflow_id in ids])
        finally:
            await log.close()

    async def _wake(self, log: SqliteEventLog, workflow_id: str) -> float:
        last = (await log.read(workflow_id))[-1].offset
        begun_s = time.perf_counter()
        sending = asyncio.ensure_future(
            self._client.signal(workflow_id, "com.example.decision", {"approved": True})
        )
        while not await log.read(workflow_id, after_offset=last, limit=1):
            if time.perf_counter() - begun_s > TIMEOUT_S:
                raise TimeoutError(f"{workflow_id} does not wake")
            await asyncio.sleep(LOG_POLL_S)
        took_ms = (time.perf_counter() - begun_s) * 1000
        await sending
        return round(took_ms, 2)

    async def _all_are(self, ids: Sequence[str], status: str) -> None:
        wanted = set(ids)
        until_s = time.monotonic() + TIMEOUT_S
        while True:
            listed = self._client.list(status=[status], namespace="waiting", limit=2 * len(ids))
            missing = wanted - {workflow.id async for workflow in listed}
            if not missing:
                return
            if time.monotonic() > until_s:
                raise TimeoutError(f"{len(missing)} workflows are not {status}")
            await asyncio.sleep(POLL_S)

    def _memory(self) -> dict[str, int]:
        return {name: memory_bytes(pid) for name, pid in self._pids.items()}


async def measured(
    client: Callable[[], AsyncClient], log: Path, pids: Mapping[str, int], workflows: int
) -> Report:
    """Measure over a client of its own."""
    async with client() as open_client:
        return await Waiting(open_client, log, pids).measure(workflows)


def main() -> int:
    """Start a server, measure, print; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.waiting", description=__doc__)
    parser.add_argument("--workflows", type=int, default=1_000)
    workflows = parser.parse_args().workflows
    with tempfile.TemporaryDirectory(prefix="orchx-waiting-") as name:
        settings = Settings(
            data_dir=Path(name) / "data",
            http=HttpSettings(port=free_port(), authentication="off"),
            admission=AdmissionSettings(tenant_share=1.0),
            log_level="warning",
        )
        running = start_server(settings)
        try:
            pids = {name: int(pid) for name, pid in running.pids.items()}
            log = settings.data_dir / "events.db"
            report = asyncio.run(measured(lambda: AsyncClient(running.url), log, pids, workflows))
        finally:
            stop_server(settings)
        result = {"machine": machine(Path(name)), **asdict(report)}
    result["owners_growth"] = round(report.owners_growth(), 4)
    print(json.dumps(result, indent=2))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
