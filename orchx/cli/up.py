"""What `orchx up` does: a server on this machine, until it is told to stop."""

from __future__ import annotations

import os
import signal
import sys
import threading
from typing import Any

import msgspec
from rich.console import Console
from rich.panel import Panel

from orchx.cli.up_command import UpOptions
from orchx.serve.server import Running, start_server, stop_server
from orchx.settings import Settings


def run_up(options: UpOptions) -> int:
    """Start, tell where, wait for SIGINT or SIGTERM, stop. Returns the exit code."""
    settings = settings_of(options)
    console = Console(stderr=options.json)
    stop = threading.Event()
    if not options.json:
        console.print("Starting Ray, the engine and the HTTP ingress …")
    running = start_server(settings)
    for number in (signal.SIGINT, signal.SIGTERM):  # not before: Ray sets its own at start
        signal.signal(number, lambda *_: stop.set())
    if options.json:
        _print_json(running)
        sys.stdout = sys.stderr  # Ray prints warnings to standard output
    else:
        _print_welcome(console, settings, running)
    stop.wait()
    if not options.json:
        console.print("Stopping; what runs goes on at the next start.")
    stop_server(settings)
    return 0


def settings_of(options: UpOptions) -> Settings:
    """Return the settings: the environment's, with the options given in place of them."""
    settings = Settings()
    http = {
        "host": options.host,
        "port": options.port,
        "replicas": options.replicas,
        "authentication": None if options.authentication else "off",
    }
    top: dict[str, Any] = {
        "data_dir": options.data_dir,
        "http": settings.http.model_copy(update=_given(http)),
        "owners": settings.owners.model_copy(update=_given({"dedicated": options.dedicated})),
        "log_level": options.log_level,
        "task_modules": options.tasks or None,
        "definitions": options.definitions or None,
        "services": options.services or None,
    }
    return settings.model_copy(update=_given(top))


def _given(values: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if value is not None}


def _print_json(running: Running) -> None:
    line = {
        "url": running.url,
        "pid": os.getpid(),
        "pids": running.pids,
        "adminKey": running.admin_key,
        "startedS": round(running.started_s, 2),
    }
    sys.stdout.write(msgspec.json.encode(line).decode() + "\n")
    sys.stdout.flush()


def _print_welcome(console: Console, settings: Settings, running: Running) -> None:
    lines = [f"[bold]orchx[/bold] takes requests at [bold]{running.url}[/bold]"]
    lines.append(f"ready after {running.started_s:.1f} s, data in {settings.data_dir}")
    if running.admin_key is not None:
        lines += [
            "",
            "This data folder is new, and so is its first API key. It is shown only now:",
            f"  export ORCHX_API_KEY={running.admin_key}",
        ]
    elif settings.http.authentication == "off":
        lines.append("no API key is asked for (loopback only)")
    lines += ["", f"  export ORCHX_URL={running.url}", "  orchx doctor", "", "Ctrl-C stops it."]
    console.print(Panel("\n".join(lines), expand=False))
