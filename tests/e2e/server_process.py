"""`orchx up` as a user starts it: a process of its own, which may be killed and started anew."""

from __future__ import annotations

import json
import os
import re
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx

from orchx.adapters.loopback_ports import free_port
from orchx.client import AsyncClient, Client
from orchx.client.retries import RetryPolicy
from orchx.settings import Settings
from tests.e2e import process_tree
from tests.e2e.conditions import eventually

ROOT = Path(__file__).parents[2]
LOOPBACK = "127.0.0.1"
START_TIMEOUT_S = 90.0
STOP_TIMEOUT_S = 40.0
PATIENT = RetryPolicy(limit=200, first_delay_s=0.05, max_delay_s=1.0)

_PROCESS = re.compile(r'process="([a-z0-9-]+)-(\d+)"')


class ServerProcess:
    """One data folder and one port, and the server that is started on them, again and again.

    Args:
        folder: holds the data and the logs.
        arguments: more options for `orchx up`.
        environment: settings, and whatever else the server shall see.
        authentication: whether keys are asked for; `admin_key` is then the first one.
        settings: what the server's environment says of its stores, for whoever looks into them.
        host: address that it listens at.
        prefix: the beginning of a command that runs the server elsewhere, as the same process.
        start_timeout_s: how long a start may take.
    """

    def __init__(
        self,
        folder: Path,
        *,
        arguments: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
        authentication: bool = False,
        settings: Settings | None = None,
        host: str = LOOPBACK,
        prefix: Sequence[str] = (),
        start_timeout_s: float = START_TIMEOUT_S,
    ) -> None:
        self.folder = folder
        self.data = folder / "data"
        self.settings = settings or Settings(data_dir=self.data)
        self.port = free_port()
        self.url = f"http://{host}:{self.port}"
        self.pids: dict[str, int] = {}
        self.nodes: dict[str, str] = {}
        self.logs: Path | None = None  # of its processes, once it has started
        self.admin_key: str | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._start_timeout_s = start_timeout_s
        self._environment = dict(environment or {})
        program = Path(sys.executable).with_name("orchx")
        self._command = [
            *prefix,
            *(str(program), "up", "--json", "--host", host, "--port", str(self.port)),
            *("--data-dir", str(self.data), "--log-level", "warning"),
            *(() if authentication else ("--no-auth",)),
            *arguments,
        ]

    @property
    def session(self) -> int:
        """The session of the processes, which is the server's process id."""
        assert self._process is not None
        return self._process.pid

    @property
    def runs(self) -> bool:
        """Whether it was started, and neither stopped nor killed since."""
        return self._process is not None

    def change(self, environment: Mapping[str, str], settings: Settings) -> None:
        """Have other settings from the next start on."""
        self._environment = dict(environment)
        self.settings = settings

    def start(self) -> float:
        """Start the server, wait until it takes requests, and return how long that took.

        Raises:
            AssertionError: it did not start; the end of its log is in the message.
        """
        begun_s = time.monotonic()
        self.folder.mkdir(parents=True, exist_ok=True)
        path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
        with (self.folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                self._command,
                stdout=subprocess.PIPE,
                stderr=log,
                cwd=self.folder,
                env={**os.environ, "PYTHONPATH": path, **self._environment},
                start_new_session=True,
            )
        announced = self._announced()
        self.pids = {name: int(pid) for name, pid in announced["pids"].items()}
        self.nodes = {name: node["id"] for name, node in announced["nodes"].items()}
        self.logs = Path(announced["logs"])
        self.admin_key = announced["adminKey"] or self.admin_key
        return time.monotonic() - begun_s

    def stop(self) -> None:
        """End the server as Ctrl-C does; whatever is left of it is killed, and told."""
        process = self._process
        if process is None:
            return
        try:
            if process.poll() is None:
                process.send_signal(signal.SIGINT)
                process.wait(STOP_TIMEOUT_S)
        finally:
            left = process_tree.session_members(process.pid)
            self.kill()
        assert not left, f"left behind by an orderly stop: {left}"

    def kill(self) -> None:
        """End all of its processes at once, as a machine that loses power would."""
        if self._process is not None:
            process_tree.kill_session(self._process.pid)
            self._process.wait(STOP_TIMEOUT_S)
            if self._process.stdout is not None:
                self._process.stdout.close()
            self._process = None

    def restart_after_main_death(self) -> None:
        """Kill the process that was started, and nothing else; then start another at once."""
        assert self._process is not None
        orphans = self._process
        process_tree.kill(orphans.pid)
        try:
            self.start()
        finally:
            process_tree.kill_session(orphans.pid)
            orphans.wait(STOP_TIMEOUT_S)
            if orphans.stdout is not None:
                orphans.stdout.close()

    def client(self, *, retries: RetryPolicy = PATIENT) -> Client:
        """Return a client that is patient while the server is away."""
        return Client(self.url, api_key=self.admin_key, retries=retries)

    def async_client(self, *, retries: RetryPolicy = PATIENT) -> AsyncClient:
        """Return a client for asyncio, as patient."""
        return AsyncClient(self.url, api_key=self.admin_key, retries=retries)

    def log(self) -> str:
        """Return the end of the server's log."""
        return (self.folder / "server.log").read_text(errors="replace")[-5_000:]

    # -- its processes ---------------------------------------------------------------------

    def actor_pid(self, name: str) -> int:
        """Return the process of an actor as it is now, by the metrics that it sends."""

        def look() -> int | None:
            for found, pid in self.reporting().items():
                if found == name and process_tree.is_alive(pid):
                    return pid
            return None

        pid = self.pids.get(name)
        if pid is None or not process_tree.is_alive(pid):
            pid = self.pids[name] = int(eventually(look, f"metrics of {name}") or 0)
        return pid

    def reporting(self) -> dict[str, int]:
        """Return the living processes that send metrics, by name."""
        try:
            text = httpx.get(f"{self.url}/metrics", headers=self.authorization, timeout=15).text
        except httpx.TransportError:
            return {}
        pairs = {(name, int(pid)) for name, pid in _PROCESS.findall(text)}
        return {name: pid for name, pid in pairs if process_tree.is_alive(pid)}

    def pids_titled(self, title: str) -> list[int]:
        """Return the processes whose title has this part, as Ray names its workers."""
        members = process_tree.session_members(self.session)
        return [pid for pid, command in members.items() if title in command]

    @property
    def authorization(self) -> dict[str, str]:
        """The headers that every request needs."""
        return {"Authorization": f"Bearer {self.admin_key}"} if self.admin_key else {}

    def is_ready(self) -> bool:
        """Return whether all parts say that they are ready."""
        try:
            return httpx.get(f"{self.url}/readyz", timeout=15).status_code == 200
        except httpx.TransportError:
            return False

    def _announced(self) -> dict[str, Any]:
        assert self._process is not None
        assert self._process.stdout is not None
        with selectors.DefaultSelector() as selector:
            selector.register(self._process.stdout, selectors.EVENT_READ)
            line = (
                self._process.stdout.readline() if selector.select(self._start_timeout_s) else b""
            )
        if not line:
            self.kill()
            raise AssertionError(f"the server did not start:\n{self.log()}")
        announced: dict[str, Any] = json.loads(line)
        return announced
