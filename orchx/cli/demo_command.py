"""`orchx demo`: its options. What it does is in `orchx.cli.demo`, imported when it is run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import typer

from orchx.cli.options import Json
from orchx.cli.up_command import run

app = typer.Typer(add_completion=False)

DEFAULT_REQUESTS = 60
MAX_REQUESTS = 100_000


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoOptions:
    """What `orchx demo` was asked for."""

    requests: int
    seed: int
    keep: bool
    json: bool


@app.command("demo")
def demo(
    requests: Annotated[
        int, typer.Option("--requests", min=1, max=MAX_REQUESTS, help="How many to submit.")
    ] = DEFAULT_REQUESTS,
    seed: Annotated[int, typer.Option("--seed", help="Draws the requests and the faults.")] = 1,
    keep: Annotated[
        bool, typer.Option("--keep", help="Leave everything running until Ctrl-C.")
    ] = False,
    json_: Json = False,
) -> None:
    """Start all of it, run example requests, report.

    Requests from HR, Finance and IT, with failures injected into the services they need;
    ends with one line that counts what was lost or done twice.
    """
    run("demo", "run_demo", DemoOptions(requests=requests, seed=seed, keep=keep, json=json_))
