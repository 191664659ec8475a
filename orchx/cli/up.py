"""What `orchx up` does: a server on this machine or a cluster, until it is told to stop."""

from __future__ import annotations

import os
import sys
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import msgspec
import ray
from rich.console import Console

from orchx.actors.cluster import joins_cluster
from orchx.cli.abrupt_end import adopt_orphans, end_abruptly
from orchx.cli.environment_settings import read_settings
from orchx.cli.example_files import with_examples
from orchx.cli.failures import UsageError
from orchx.cli.node_watch import NodeWatch
from orchx.cli.orderly_end import EndingSignals, stop_for_good
from orchx.cli.up_command import UpOptions
from orchx.cli.welcome import print_welcome
from orchx.errors import DriverError
from orchx.serve.server import Running, start_server
from orchx.settings import Settings


def run_up(options: UpOptions) -> int:
    """Start, tell where, wait for SIGINT or SIGTERM, stop. Returns the exit code."""
    settings = settings_of(options)
    if options.detach:
        return _leave_running(options, settings)
    signals = EndingSignals()
    adopt_orphans()
    try:
        with _stage(options, settings) as settings:
            try:
                _run(options, settings, signals)
            finally:
                stop_for_good(settings)
    except KeyboardInterrupt:  # it was not up yet
        return signals.exit_code
    return 0


def _leave_running(options: UpOptions, settings: Settings) -> int:
    """Start on a cluster and go. A start that fails stops nothing: it may have run before."""
    if not joins_cluster():
        raise UsageError(
            "--detach leaves orchx running on a Ray cluster, and RAY_ADDRESS names none",
            "On a node of the cluster: RAY_ADDRESS=auto orchx up --detach",
        )
    if options.examples:
        raise UsageError("--examples needs a sandbox, which ends with this command", "Leave one.")
    try:
        running = start_server(settings)
    finally:
        ray.shutdown()
    if options.json:
        _print_json(running)
    else:
        print_welcome(Console(), settings, running, examples=False, stays=True)
    return 0


def _stage(options: UpOptions, settings: Settings) -> AbstractContextManager[Settings]:
    if options.examples:
        return with_examples(settings, options.sandbox_port)
    return nullcontext(settings)


def _run(options: UpOptions, settings: Settings, signals: EndingSignals) -> None:
    console = Console(stderr=options.json)
    if not options.json:
        console.print("Starting Ray, the engine and the HTTP ingress …")
    running = start_server(settings)
    signals.is_up = True
    if options.json:
        _print_json(running)
        sys.stdout = sys.stderr  # Ray prints warnings to standard output
    else:
        print_welcome(console, settings, running, examples=options.examples)
    node = NodeWatch(running.raylet, signals.stop)
    signals.stop.wait()
    if node.lost:
        error = DriverError(
            "Ray's own process on this machine (its raylet) has ended, and with it what orchx had "
            "here: start it again, and what was running goes on"
        )
        end_abruptly(error, as_json=options.json)
    if not options.json:
        console.print("Stopping; what runs goes on at the next start.")


def settings_of(options: UpOptions) -> Settings:
    """Return the settings: the environment's, with the options given in place of them.

    Raises:
        UsageError: the environment's are wrong.
    """
    settings = read_settings()
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
        "nodes": {
            name: {"id": node.id, "address": node.address} for name, node in running.nodes.items()
        },
        "adminKey": running.admin_key,
        "logs": str(running.logs),
        "startedS": round(running.started_s, 2),
        "rayS": round(running.ray_s, 2),
    }
    sys.stdout.write(msgspec.json.encode(line).decode() + "\n")
    sys.stdout.flush()
