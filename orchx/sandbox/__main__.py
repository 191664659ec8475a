"""Starts the sandbox: `python -m orchx.sandbox --port 8610 --data DIR`.

Prints one JSON line, `{"url": ...}`, once it listens. SIGTERM and SIGINT end it with status 0,
and with `--until-stdin-ends` the end of its input: that of the process that holds the other end.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import socket
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import uvicorn

from orchx.sandbox.app import SandboxApp
from orchx.sandbox.wire import CuttableProtocol

DEFAULT_HOST: Final = "127.0.0.1"
DEFAULT_PORT: Final = 8610
# Long, so that a client's pooled connection is never closed under its next request.
_KEEP_ALIVE_S: Final = 300
_GRACE_S: Final = 1
_READ_BYTES: Final = 4096


class AnnouncingServer(uvicorn.Server):
    """A server that says where it listens, for whoever started it on a free port."""

    def __init__(self, config: uvicorn.Config, *, until_stdin_ends: bool) -> None:
        super().__init__(config)
        self._until_stdin_ends = until_stdin_ends

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start listening, then print the address."""
        await super().startup(sockets)
        if self._until_stdin_ends:
            asyncio.get_running_loop().add_reader(sys.stdin.fileno(), self._read_stdin)
        for server in self.servers:
            host, port = server.sockets[0].getsockname()[:2]
            print(json.dumps({"url": f"http://{host}:{port}"}), flush=True)

    def _read_stdin(self) -> None:
        if not os.read(sys.stdin.fileno(), _READ_BYTES):
            asyncio.get_running_loop().remove_reader(sys.stdin.fileno())
            self.should_exit = True


def _arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m orchx.sandbox", description=__doc__)
    parser.add_argument("--host", default=DEFAULT_HOST, help="address to listen on")
    parser.add_argument("--port", type=int, default=DEFAULT_PORT, help="0 takes a free one")
    parser.add_argument("--data", type=Path, required=True, help="directory of the ledger")
    parser.add_argument("--until-stdin-ends", action="store_true", help="then end, too")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    """Serve until SIGTERM or SIGINT."""
    options = _arguments(arguments)
    # uvicorn raises the signal once more after its own clean shutdown: let that one pass.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    config = uvicorn.Config(
        SandboxApp(options.data),
        host=options.host,
        port=options.port,
        loop="uvloop",
        http=CuttableProtocol,
        ws="none",
        lifespan="on",
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=_KEEP_ALIVE_S,
        timeout_graceful_shutdown=_GRACE_S,
    )
    AnnouncingServer(config, until_stdin_ends=options.until_stdin_ends).run()


if __name__ == "__main__":
    main()
