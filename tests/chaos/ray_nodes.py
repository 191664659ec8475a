"""A Ray cluster whose nodes are machines of their own: a head, and nodes that join it."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.chaos.commands import output_of
from tests.chaos.network import Machine
from tests.e2e import process_tree
from tests.e2e.conditions import eventually
from tests.e2e.server_process import ROOT

PORT = 6_379
STARTED = "Ray runtime started."
START_TIMEOUT_S = 120.0
CPUS = 2
_STORE_BYTES = 100 << 20

AS_IF_ALONE = {"RAY_worker_niceness": "0"}
"""Ray has its workers yield to everything else on a machine: here to the other machines."""


class RayNode:
    """One node: `ray start --block` and all that it starts.

    Args:
        machine: where it runs.
        folder: for its log.
        temporary: for its temporary files, which no other machine sees. A short path: Ray has
            sockets in there.
        environment: see `node_environment`.
        head: the machine of the head; None: this is it.
        labels: what it says of itself.
    """

    def __init__(
        self,
        machine: Machine,
        folder: Path,
        *,
        temporary: Path,
        environment: Mapping[str, str],
        head: Machine | None = None,
        labels: Mapping[str, str],
    ) -> None:
        self.machine = machine
        self._log = folder / f"{machine.name}.log"
        self._temporary = temporary
        self._environment = environment
        self._process: subprocess.Popen[bytes] | None = None
        place = (f"--address={head.address}:{PORT}",) if head else ("--head", f"--port={PORT}")
        self._command = machine.command(
            *(str(Path(sys.executable).with_name("ray")), "start", "--block", *place),
            f"--node-ip-address={machine.address}",
            f"--num-cpus={CPUS}",
            f"--object-store-memory={_STORE_BYTES}",
            f"--labels={','.join(f'{name}={value}' for name, value in labels.items())}",
            *(() if head else ("--include-dashboard=false",)),
        )

    def start(self) -> None:
        """Start it, and wait until it is part of the cluster."""
        self._temporary.mkdir(parents=True, exist_ok=True)
        begin = self._log.stat().st_size if self._log.exists() else 0
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self._temporary,
                env={**os.environ, **self._environment, "TMPDIR": str(self._temporary)},
                start_new_session=True,
            )

        def is_started() -> bool:
            told = self._log.read_bytes()[begin:].decode(errors="replace")
            assert self.lives(), f"{self.machine.name} ended at its start: {told[-2_000:]}"
            return STARTED in told

        eventually(is_started, f"Ray on {self.machine.name}", timeout_s=START_TIMEOUT_S)

    def lives(self) -> bool:
        """Tell whether what was started lives."""
        return self._process is not None and process_tree.is_alive(self._process.pid)

    def pids(self) -> Sequence[int]:
        """Return all of its processes."""
        if self._process is None:
            return ()
        return list(process_tree.session_members(self._process.pid))

    def kill(self) -> None:
        """End all of its processes at once."""
        if self._process is not None:
            process_tree.kill_session(self._process.pid)
            self._process.wait()
            self._process = None


def node_environment(folder: Path) -> dict[str, str]:
    """Return what `ray start` and `orchx up` need on a machine of one cluster."""
    token = folder / "token"
    token.touch(mode=0o600)
    token.write_text(secrets.token_hex(32))
    orchx = str(Path(sys.executable).with_name("orchx"))
    told: dict[str, str] = json.loads(output_of((orchx, "node-env", "--json")))
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    return {
        **told,
        "PYTHONPATH": path,
        "RAY_AUTH_TOKEN_PATH": str(token),
        **AS_IF_ALONE,
    }
