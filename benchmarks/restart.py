"""python -m benchmarks.restart [--profile kafka]: how soon everything goes on after a machine died.

Some workflows are in the middle of their calls, many wait for an event. All processes of the
engine are killed at once and orchx is started anew. From when Ray is up: until requests are taken,
until each running workflow has a new owner, until each waiting one has been woken and is over.
Prints JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import orchx
from benchmarks.machine import machine, tree
from benchmarks.servers import PROFILES, servers
from benchmarks.waiting import BATCH
from benchmarks.waiting import DEFINITION as APPROVAL
from orchx.adapters.loopback_ports import free_port
from orchx.client import AsyncClient
from orchx.client.retries import RetryPolicy
from orchx.errors import DriverError, TryLater

NAP_S: Final = 5.0
NAPS: Final = 60  # in a row: longer than anything that is measured
ERRAND: Final = """\
document: {dsl: '1.0.3', namespace: waiting, name: errand, version: '1.0.0'}
do:
""" + "".join(f"  - nap{number}: {{call: bench.nap}}\n" for number in range(NAPS))
POLL_S: Final = 0.25
TIMEOUT_S: Final = 600.0
PATIENT: Final = RetryPolicy(limit=200, first_delay_s=0.05, max_delay_s=1.0)
ONCE: Final = RetryPolicy(limit=0)


@orchx.task(name="bench.nap")
async def nap() -> None:
    """Take a while, and no CPU."""
    await asyncio.sleep(NAP_S)


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """Seconds from when Ray was up; `ray_s` is how long that took, from the start of the process.

    `served_s`: the first request was taken. `running_s`: all that ran have an owner again.
    `woken_s`: all that waited are over, by an event that was sent once all ran.
    """

    waiting: int
    running: int
    ray_s: float
    served_s: float
    running_s: float
    woken_s: float


class Server:
    """`orchx up` with a folder and a port of its own."""

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        self.port = free_port()
        self._folder = folder
        self._environment = {
            **os.environ,
            "PYTHONPATH": str(Path.cwd()),
            "ORCHX_ADMISSION__TENANT_SHARE": "1.0",
            **environment,
        }
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start, and do not wait."""
        program = Path(sys.executable).with_name("orchx")
        with (self._folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                [program, "up", "--json", "--no-auth", "--port", str(self.port),
                 "--data-dir", self._folder / "data", "--tasks", "benchmarks.restart",
                 "--log-level", "warning"],
                stdout=subprocess.PIPE, stderr=log, env=self._environment,
            )  # fmt: skip

    def started(self) -> Mapping[str, Any]:
        """Return what the server says of itself once all its processes run."""
        assert self._process is not None  # noqa: S101  for the type checker
        assert self._process.stdout is not None  # noqa: S101
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError((self._folder / "server.log").read_text()[-2_000:])
        said: Mapping[str, Any] = json.loads(line)
        return said

    def lives(self) -> bool:
        """Tell whether what was started has not ended."""
        return self._process is not None and self._process.poll() is None

    def kill(self) -> None:
        """End all its processes at once, as a machine that loses power would."""
        if self._process is None:
            return
        for pid in tree(self._process.pid):
            os.kill(pid, signal.SIGKILL)
        self._process.wait()
        self._process = None

    def client(self, retries: RetryPolicy = PATIENT) -> AsyncClient:
        """Return a client, a patient one unless told otherwise."""
        return AsyncClient(f"http://127.0.0.1:{self.port}", retries=retries)


async def prepare(server: Server, waiting: int, running: int) -> Mapping[str, int]:
    """Start workflows; return the epochs of those that run."""
    async with server.client() as client:
        for definition in (APPROVAL, ERRAND):
            await client.definitions.publish(definition)
        await _submit(client, "approval", waiting)
        await _until_are(client, "approval", "waiting", waiting)
        await _submit(client, "errand", running)
        await _until_are(client, "errand", "running", running)
        return await _epochs(client, running)


async def measure(server: Server, waiting: int, epochs: Mapping[str, int]) -> Report:
    """Kill, start, and see everything go on."""
    server.kill()
    server.start()

    def hear() -> tuple[Mapping[str, Any], float]:
        said = server.started()
        return said, time.monotonic() - (float(said["startedS"]) - float(said["rayS"]))

    hearing = asyncio.create_task(asyncio.to_thread(hear))
    await _until_served(server)
    served_at_s = time.monotonic()
    said, ray_up_s = await hearing
    async with server.client() as client:
        await _until_taken_up(client, epochs)
        running_s = time.monotonic() - ray_up_s
        await client.broadcast("com.example.decision", {"approved": True})
        await _until_are(client, "approval", "completed", waiting)
        woken_s = time.monotonic() - ray_up_s
    return Report(
        waiting=waiting,
        running=len(epochs),
        ray_s=round(float(said["rayS"]), 1),
        served_s=round(served_at_s - ray_up_s, 1),
        running_s=round(running_s, 1),
        woken_s=round(woken_s, 1),
    )


async def _until_served(server: Server) -> None:
    """Have one more workflow taken, as soon as one is; it does not end, and nobody waits."""
    async with server.client(ONCE) as client, asyncio.timeout(TIMEOUT_S):
        while server.lives():
            try:
                await _submit(client, "errand", 1, key="once-it-serves")
                return
            except (TryLater, DriverError):  # nobody listens yet, or who does has nobody behind
                await asyncio.sleep(POLL_S)
        server.started()  # which says why it has ended


async def _submit(
    client: AsyncClient, name: str, count: int, *, key: str | None = None
) -> Sequence[str]:
    request = {"definition": {"namespace": "waiting", "name": name}}
    ids: list[str] = []
    for first in range(0, count, BATCH):
        accepted = await client.submit_batch(
            [request] * min(BATCH, count - first), key=key and f"{key}-{first}"
        )
        ids += [one.id for one in accepted]
    return ids


async def _until_are(client: AsyncClient, name: str, status: str, count: int) -> None:
    """Wait until so many workflows of a definition have a status."""
    found = 0
    async with asyncio.timeout(TIMEOUT_S):
        while found < count:
            await asyncio.sleep(POLL_S)
            listed = client.list(status=[status], namespace="waiting", name=name, limit=count)
            found = sum([1 async for _ in listed])


async def _until_taken_up(client: AsyncClient, epochs: Mapping[str, int]) -> None:
    """Wait until each of these has a later epoch: a new owner has claimed it."""
    async with asyncio.timeout(TIMEOUT_S):
        while True:
            now = await _epochs(client, len(epochs))
            if all(now.get(workflow_id, 0) > epoch for workflow_id, epoch in epochs.items()):
                return
            await asyncio.sleep(POLL_S)


async def _epochs(client: AsyncClient, limit: int) -> Mapping[str, int]:
    listed = client.list(status=["running"], namespace="waiting", name="errand", limit=limit + 1)
    return {workflow.id: workflow.epoch async for workflow in listed}


def main() -> int:
    """Start what is needed, measure, print; returns the exit code."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # nothing stays behind
    parser = argparse.ArgumentParser(prog="python -m benchmarks.restart", description=__doc__)
    parser.add_argument("--profile", choices=PROFILES, default="embedded")
    parser.add_argument("--waiting", type=int, default=10_000)
    parser.add_argument("--running", type=int, default=500)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="orchx-restart-") as name:
        folder = Path(name)
        with servers(arguments.profile, folder) as stage:
            server = Server(folder, stage.environment())
            server.start()
            try:
                server.started()
                epochs = asyncio.run(prepare(server, arguments.waiting, arguments.running))
                report = asyncio.run(measure(server, arguments.waiting, epochs))
            finally:
                server.kill()
        result = {"profile": arguments.profile, "machine": machine(folder), **asdict(report)}
    print(json.dumps(result, indent=2))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
