"""Redis, MongoDB and Kafka on this machine for development: `make services`.

They keep their data in the folder `.services` and stay until `down`.
Usage: python -m tools.services up | down | status
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from tools.services import processes
from tools.services.ports import DEVELOPMENT, is_listening
from tools.services.processes import Process
from tools.services.running import (
    SERVICES,
    log_of,
    pid_file_of,
    servers_at,
    start_all,
)
from tools.services.server import Server

ENVIRONMENT = "env"


def up(servers: Sequence[Server], folder: Path) -> int:
    """Start what does not run yet and say where it is; the exit status is 0 if all run."""
    absent = []
    is_complete = True
    for server in servers:
        if process := _process_of(server, folder):
            say(f"{server.name} is running at {server.address} (pid {process.pid})")
        elif is_listening(server.port):
            say(f"{server.name} is missing: something else listens at port {server.port}")
            is_complete = False
        else:
            absent.append(server)
    if absent:
        say(f"starting {', '.join(server.name for server in absent)}")
    outcome = start_all(absent, folder, dies_with_parent=False)
    for line in (*outcome.running, *outcome.missing):
        say(str(line))
    _write_environment(servers, folder)
    say(f"for the tests: set -a; . {_shown(folder / ENVIRONMENT)}; set +a")
    return int(bool(outcome.missing) or not is_complete)


def down(servers: Sequence[Server], folder: Path) -> int:
    """End the servers that `up` started, and no others."""
    found = []
    for server in servers:
        if process := _process_of(server, folder):
            say(f"stopping {server.name} (pid {process.pid})")
            found.append(process)
    processes.stop(found)
    for server in servers:
        pid_file_of(server, folder).unlink(missing_ok=True)
    (folder / ENVIRONMENT).unlink(missing_ok=True)
    say(f"stopped; their data stays in {_shown(folder)}" if found else "none is running")
    return 0


def status(servers: Sequence[Server], folder: Path) -> int:
    """Say of each server whether it runs and answers; the exit status is 0 if all do."""
    is_complete = True
    for server in servers:
        process = _process_of(server, folder)
        if process is None:
            say(f"{server.name} is not running")
        elif not server.is_ready():
            log = _shown(log_of(server, folder))
            say(f"{server.name} is running (pid {process.pid}) but does not answer: see {log}")
        else:
            say(f"{server.name} answers at {server.address} (pid {process.pid})")
            continue
        is_complete = False
    return int(not is_complete)


def say(line: str) -> None:
    """Print a line at once."""
    print(f"services: {line}", flush=True)


def main(arguments: Sequence[str]) -> int:
    """Run one of the three commands on the development servers."""
    commands = {"up": up, "down": down, "status": status}
    parser = argparse.ArgumentParser(
        prog="python -m tools.services", description=str(__doc__).splitlines()[0]
    )
    parser.add_argument("command", choices=list(commands))
    return commands[parser.parse_args(arguments).command](servers_at(DEVELOPMENT), SERVICES)


def _process_of(server: Server, folder: Path) -> Process | None:
    return processes.read_pid_file(pid_file_of(server, folder))


def _write_environment(servers: Sequence[Server], folder: Path) -> None:
    """Write the tests' variables, of the servers that run, as lines for a shell."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = [
        f"{server.variable}={shlex.quote(server.address)}\n"
        for server in servers
        if _process_of(server, folder)
    ]
    (folder / ENVIRONMENT).write_text("".join(lines))


def _shown(path: Path) -> str:
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
