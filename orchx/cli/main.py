"""The `orchx` command.

Exit codes: 0 it went well; 1 the workflow failed (or a check of `doctor`); 2 wrong usage;
3 the server cannot be reached or is not ready; 4 it refused; 5 `--wait` ran out with the
workflow still on its way; 70 a bug; 130 Ctrl-C; 141 the reader of a pipe has gone.
"""

from __future__ import annotations

from typing import Annotated, Final

import typer

from orchx.cli.installed import orchx_version
from orchx.cli.lazy_group import LazyCommand, LazyGroup

_SERVER: Final = "Server"
_WORKFLOWS: Final = "Workflows"
_CATALOG: Final = "Catalog"


def _command(module: str, panel: str, summary: str) -> LazyCommand:
    return LazyCommand(module=f"orchx.cli.{module}", panel=panel, summary=summary)


class OrchxGroup(LazyGroup):
    """All commands, in the order in which people meet them."""

    table = {  # noqa: RUF012  declared as ClassVar by the parent
        "up": _command("up_command", _SERVER, "Start a server here and stay until Ctrl-C."),
        "down": _command("down", _SERVER, "Stop what `orchx up --detach` left on a cluster."),
        "node-env": _command("node_env", _SERVER, "Print what `ray start` needs on each node."),
        "demo": _command("demo_command", _SERVER, "Start all of it, run example requests, report."),
        "doctor": _command("doctor", _SERVER, "Look for what is wrong, and say what to do."),
        "rebuild": _command(
            "rebuild", _SERVER, "Make what is made from the log once more, and compare."
        ),
        "repartition": _command(
            "repartition", _SERVER, "Give the log another number of partitions."
        ),
        "keys": _command("keys", _SERVER, "API keys of the server."),
        "version": _command("version", _SERVER, "Print the version."),
        "submit": _command("submit", _WORKFLOWS, "Submit a request."),
        "list": _command("listing", _WORKFLOWS, "List workflows, newest first."),
        "show": _command("show", _WORKFLOWS, "Show one workflow."),
        "history": _command("history", _WORKFLOWS, "Show what has happened to a workflow."),
        "signal": _command("send_signal", _WORKFLOWS, "Send an event to a workflow."),
        "cancel": _command("cancel", _WORKFLOWS, "Cancel a workflow."),
        "definitions": _command("definitions", _CATALOG, "Workflow documents: publish, show, ..."),
        "services": _command("services", _CATALOG, "Services that provide capabilities."),
        "deliveries": _command("deliveries", _CATALOG, "Webhooks, delivered and not."),
        "dead-letters": _command(
            "dead_letters", _CATALOG, "Records that could not be read: list, replay, drop."
        ),
    }


app = typer.Typer(
    cls=OrchxGroup,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"orchx {orchx_version()}")
        raise typer.Exit


@app.callback(
    epilog="Exit codes: 0 well · 1 the workflow failed · 2 wrong usage · 3 not reachable · "
    "4 refused · 5 still running when --wait ran out"
)
def orchx(
    version: Annotated[
        bool,
        typer.Option("--version", is_eager=True, callback=_show_version, help="Print the version."),
    ] = False,
) -> None:
    """Run workflows durably: OrchestratorX on Ray."""


if __name__ == "__main__":
    app()
