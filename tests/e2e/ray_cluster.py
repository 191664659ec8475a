"""A Ray cluster of several nodes beside the test, whose nodes come and go."""

from __future__ import annotations

import json
import os
import secrets
import selectors
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from orchx.actors.cluster import node_environment
from tests.e2e import process_tree
from tests.e2e.server_process import ROOT

ANSWER_TIMEOUT_S = 240.0  # on two busy cores
STOP_TIMEOUT_S = 30.0


class RayCluster:
    """Starts with a head that has no labels; Ray's token is in a file for its owner alone.

    Args:
        folder: for the token and the log.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        token = folder / "token"
        token.touch(mode=0o600)
        token.write_text(secrets.token_hex(32))
        path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
        self.environment = {
            "PYTHONPATH": path,
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN_PATH": str(token),
        }
        self._log = (folder / "cluster.log").open("ab")
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.e2e.cluster_nodes"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            cwd=folder,
            env={**os.environ, **node_environment(), **self.environment},
            start_new_session=True,
        )
        self.head = ""

    def add(self, labels: Mapping[str, str]) -> str:
        """Start a node; returns its id."""
        return self._ask(add=labels)

    def remove(self, node: str) -> None:
        """Kill a node's processes, as its machine's end would."""
        self._ask(remove=node)

    def __enter__(self) -> RayCluster:
        try:
            head = self._answer()
        except BaseException:
            self._end()
            raise
        self.head = head["id"]
        self.environment["RAY_ADDRESS"] = head["address"]
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._end()

    def _end(self) -> None:
        """Kill what is there: the nodes' orderly end is nobody's subject."""
        process_tree.kill_session(self._process.pid)
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                stream.close()
        self._process.wait(STOP_TIMEOUT_S)
        self._log.close()

    def _ask(self, **wanted: Any) -> str:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(wanted).encode() + b"\n")
        self._process.stdin.flush()
        told: str = self._answer()["id"]
        return told

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        with selectors.DefaultSelector() as selector:
            selector.register(self._process.stdout, selectors.EVENT_READ)
            line = self._process.stdout.readline() if selector.select(ANSWER_TIMEOUT_S) else b""
        assert line, "the cluster says nothing"
        told: dict[str, Any] = json.loads(line)
        return told
