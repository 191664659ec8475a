"""`orchx version`."""

from __future__ import annotations

import platform

import typer

from orchx.cli.installed import orchx_version, version_of
from orchx.cli.options import Json
from orchx.cli.screen import print_json

app = typer.Typer(add_completion=False)


@app.command("version")
def show_version(json_: Json = False) -> None:
    """Print the version."""
    versions = {
        "orchx": orchx_version(),
        "ray": version_of("ray"),
        "python": platform.python_version(),
    }
    if json_:
        print_json(versions)
    else:
        typer.echo("orchx {orchx} (Ray {ray}, Python {python})".format(**versions))
