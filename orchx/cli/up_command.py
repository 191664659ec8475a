"""`orchx up`: its options. What it does is in `orchx.cli.up`, imported when it is run."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from orchx.cli.failures import UsageError
from orchx.cli.options import DEFAULT_DATA_DIR, DataDir, Json

app = typer.Typer(add_completion=False)

DEFAULT_SANDBOX_PORT = 8610  # the one that the examples name


@dataclass(frozen=True, slots=True, kw_only=True)
class UpOptions:
    """What `orchx up` was asked for; None was not given: the environment or default holds."""

    host: str | None
    port: int | None
    data_dir: Path
    replicas: int | None
    dedicated: int | None
    tasks: tuple[str, ...]
    definitions: tuple[Path, ...]
    services: tuple[Path, ...]
    examples: bool
    sandbox_port: int
    authentication: bool
    log_level: Literal["debug", "info", "warning", "error"] | None
    detach: bool = False
    json: bool


def run(module: str, function: str, options: Any) -> None:
    """Call `function(options)` of a module that imports Ray; its result is the exit code."""
    name = f"orchx.cli.{module}"
    try:
        body = getattr(importlib.import_module(name), function)
    except ModuleNotFoundError as error:
        if error.name != name:
            raise
        raise UsageError(f"this build of orchx has no `{module}`") from error
    code: int | None = body(options)
    raise typer.Exit(code or 0)


@app.command("up")
def up(
    host: Annotated[
        str | None, typer.Option("--host", help="Address to listen at. [default: 127.0.0.1]")
    ] = None,
    port: Annotated[
        int | None,
        typer.Option("--port", min=0, max=65535, help="0 takes a free one. [default: 8600]"),
    ] = None,
    data_dir: DataDir = DEFAULT_DATA_DIR,
    replicas: Annotated[
        int | None, typer.Option("--replicas", min=1, max=64, help="HTTP ingestion processes.")
    ] = None,
    dedicated: Annotated[
        int | None,
        typer.Option("--dedicated", min=0, help="Warm actors that take one workflow at a time."),
    ] = None,
    tasks: Annotated[
        list[str] | None,
        typer.Option("--tasks", metavar="MODULE", help="Module with @orchx.task; repeatable."),
    ] = None,
    definitions: Annotated[
        list[Path] | None,
        typer.Option("--definitions", exists=True, help="Published at start; repeatable."),
    ] = None,
    services: Annotated[
        list[Path] | None,
        typer.Option("--services", exists=True, help="Loaded at start; repeatable."),
    ] = None,
    examples: Annotated[
        bool,
        typer.Option("--examples", help="Publish the examples; run the sandbox that they call."),
    ] = False,
    sandbox_port: Annotated[
        int,
        typer.Option(
            "--sandbox-port",
            min=1,
            max=65535,
            envvar="ORCHX_SANDBOX_PORT",
            show_envvar=False,
            help="Where it listens; else ORCHX_SANDBOX_PORT.",
        ),
    ] = DEFAULT_SANDBOX_PORT,
    no_auth: Annotated[
        bool, typer.Option("--no-auth", help="Ask for no API key; on loopback only.")
    ] = False,
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"] | None, typer.Option("--log-level")
    ] = None,
    detach: Annotated[
        bool,
        typer.Option(
            "--detach",
            help="Leave it running on the cluster that RAY_ADDRESS names; `orchx down` stops it.",
        ),
    ] = False,
    json_: Json = False,
) -> None:
    """Start a server here and stay until Ctrl-C.

    With RAY_ADDRESS (`auto` on a node of it) it runs on that Ray cluster instead. Settings that
    are not given come from the environment (ORCHX_HTTP__PORT, ...).
    """
    options = UpOptions(
        host=host,
        port=port,
        data_dir=data_dir,
        replicas=replicas,
        dedicated=dedicated,
        tasks=tuple(tasks or ()),
        definitions=tuple(definitions or ()),
        services=tuple(services or ()),
        examples=examples,
        sandbox_port=sandbox_port,
        authentication=not no_auth,
        log_level=log_level,
        detach=detach,
        json=json_,
    )
    run("up", "run_up", options)
