"""`orchx deliveries`."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Final, Literal

import typer

from orchx.cli.failures import UsageError
from orchx.cli.options import ApiKey, Json, Url, connect
from orchx.cli.screen import age, console, one_line, print_json, table

MAX_REPLAY: Final = 500

app = typer.Typer(add_completion=False, no_args_is_help=True)


@app.callback()
def deliveries() -> None:
    """Webhooks, delivered and not."""


@app.command("list")
def list_deliveries(
    status: Annotated[
        Literal["pending", "delivered", "undelivered"] | None, typer.Option("--status")
    ] = None,
    workflow: Annotated[str | None, typer.Option("--workflow", metavar="ID")] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, max=500)] = 100,
    url: Url = None,
    api_key: ApiKey = None,
    json_: Json = False,
) -> None:
    """List webhook messages and how far they got."""
    with connect(url, api_key) as client:
        found = client.deliveries.list(status=status, workflow=workflow, limit=limit)
    if json_:
        print_json({"deliveries": found})
        return
    if not found:
        console().print("No deliveries.")
        return
    now = datetime.now(UTC)
    made = table("ID", "STATUS", "WORKFLOW", "TRIES", "AGE", "URL", "ERROR", grow="URL")
    for each in found:
        made.add_row(
            each.id,
            each.status,
            each.workflow_id,
            str(each.attempts),
            age(each.created_at, now),
            one_line(each.url),
            each.last_error or "",
        )
    console().print(made)


@app.command("replay")
def replay(
    ids: Annotated[list[str] | None, typer.Argument(metavar="[ID...]")] = None,
    all_: Annotated[
        bool, typer.Option("--all", help=f"All that are undelivered, {MAX_REPLAY} at a time.")
    ] = False,
    url: Url = None,
    api_key: ApiKey = None,
    json_: Json = False,
) -> None:
    """Send undelivered webhooks again."""
    if bool(ids) == all_:
        raise UsageError("name the deliveries, or give --all")
    with connect(url, api_key) as client:
        chosen = list(ids or ())
        if all_:
            found = client.deliveries.list(status="undelivered", limit=MAX_REPLAY)
            chosen = [each.id for each in found]
        count = client.deliveries.replay(chosen) if chosen else 0
    if json_:
        print_json({"replayed": count})
    else:
        console().print(f"{count} will be sent again")
