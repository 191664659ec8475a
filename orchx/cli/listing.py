"""`orchx list`."""

from __future__ import annotations

import itertools
import time
from datetime import UTC, datetime
from typing import Annotated, Any, Final

import typer
from rich.console import Group
from rich.live import Live
from rich.text import Text

from orchx.cli.failures import UsageError
from orchx.cli.options import ApiKey, Json, Url, connect, read_labels, read_time
from orchx.cli.screen import console, print_json
from orchx.cli.workflow_view import workflow_table
from orchx.client import Client, Workflow
from orchx.client.models import STATUSES

DEFAULT_LIMIT: Final = 50
WATCH_INTERVAL_S: Final = 1.0

app = typer.Typer(add_completion=False)


@app.command("list")
def list_workflows(
    status: Annotated[
        list[str] | None, typer.Option("--status", help=f"Repeatable: {', '.join(STATUSES)}.")
    ] = None,
    namespace: Annotated[str | None, typer.Option("--namespace", help="Of the definition.")] = None,
    name: Annotated[str | None, typer.Option("--name", help="Of the definition.")] = None,
    tenant: Annotated[str | None, typer.Option("--tenant")] = None,
    type_: Annotated[str | None, typer.Option("--type", help="Of the request.")] = None,
    label: Annotated[
        list[str] | None,
        typer.Option("--label", metavar="KEY=VALUE", help="Repeatable; all of these."),
    ] = None,
    after: Annotated[
        str | None, typer.Option("--created-after", metavar="TIME", help="2026-03-01T12:00:00Z")
    ] = None,
    before: Annotated[str | None, typer.Option("--created-before", metavar="TIME")] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, help="How many at most.")] = DEFAULT_LIMIT,
    watch: Annotated[
        bool, typer.Option("--watch", help="Show it anew every second, until Ctrl-C.")
    ] = False,
    url: Url = None,
    api_key: ApiKey = None,
    json_: Json = False,
) -> None:
    """List workflows, newest first."""
    if watch and json_:
        raise UsageError("--watch and --json do not go together", "Call `list --json` in a loop.")
    filters: dict[str, Any] = {
        "status": status or None,
        "namespace": namespace,
        "name": name,
        "tenant": tenant,
        "type": type_,
        "label": read_labels(label) or None,
        "created_after": read_time(after, "--created-after"),
        "created_before": read_time(before, "--created-before"),
    }
    with connect(url, api_key) as client:
        if watch:
            _watch(client, filters, limit)
            return
        # One more than shown tells whether there are more.
        found = list(client.list(**filters, limit=limit + 1))
    shown, more = found[:limit], len(found) > limit
    if json_:
        print_json({"workflows": shown, "more": more})
    elif not shown:
        console().print("No workflows." if not any(filters.values()) else "No workflow fits.")
    else:
        console().print(workflow_table(shown, datetime.now(UTC)))
        if more:
            console().print(f"There are more: --limit {limit * 2} shows them.", style="dim")


def _watch(client: Client, filters: dict[str, Any], limit: int) -> None:
    screen = console()
    if not screen.is_terminal:
        raise UsageError("--watch needs a terminal")
    with Live(console=screen, auto_refresh=False, screen=True) as live:
        for _ in itertools.count():
            room = max(screen.height - 4, 1)
            now = datetime.now(UTC)
            rows: list[Workflow] = list(client.list(**filters, limit=min(limit, room)))
            head = Text(f"{now.astimezone():%H:%M:%S}  {client.url}  Ctrl-C ends", style="dim")
            live.update(Group(head, workflow_table(rows, now)), refresh=True)
            time.sleep(WATCH_INTERVAL_S)
