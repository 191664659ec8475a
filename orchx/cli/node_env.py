"""`orchx node-env`: what a node of a Ray cluster has to be started with."""

from __future__ import annotations

import importlib
import shlex

import typer

from orchx.cli.options import Json
from orchx.cli.screen import print_json

app = typer.Typer(add_completion=False)


@app.command("node-env")
def node_env(json_: Json = False) -> None:
    """Print what `ray start` needs on each node.

    Lines for a shell. Ray's processes keep the environment of the `ray start` that began them:

        eval "$(orchx node-env)" && ray start ...
    """
    wanted = importlib.import_module("orchx.actors.cluster").node_environment()
    if json_:
        print_json(dict(wanted))
        return
    for name, value in sorted(wanted.items()):
        typer.echo(f"export {name}={shlex.quote(value)}")
    typer.echo("unset PYTHONDONTWRITEBYTECODE")  # workers would compile Ray at each start
