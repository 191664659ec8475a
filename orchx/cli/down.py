"""`orchx down`: the end of what `orchx up --detach` has left running on a Ray cluster."""

from __future__ import annotations

import importlib

import typer

from orchx.cli.environment_settings import read_settings
from orchx.cli.failures import UsageError
from orchx.cli.options import Json
from orchx.cli.screen import console, print_json

app = typer.Typer(add_completion=False)


@app.command("down")
def down(json_: Json = False) -> None:
    """Stop what `orchx up --detach` left on a cluster.

    The cluster itself goes on. What was accepted is in the stores: the next start goes on with it.
    """
    cluster = importlib.import_module("orchx.actors.cluster")  # it imports Ray
    if not cluster.joins_cluster():
        raise UsageError(
            "RAY_ADDRESS names no Ray cluster", "On a node of it: RAY_ADDRESS=auto orchx down"
        )
    settings = read_settings()
    cluster.start_ray(settings)
    stopped = importlib.import_module("orchx.serve.server").stop_server(settings)
    if json_:
        print_json({"stopped": list(stopped)})
    elif stopped:
        console().print(f"{len(stopped)} actors are stopped; what they had goes on at a start.")
    else:
        console().print(f"Nothing of orchx was running in the namespace {settings.namespace}.")
