"""`orchx history`."""

from __future__ import annotations

from typing import Annotated

import typer

from orchx.cli.options import ApiKey, Json, Url, WorkflowId, connect
from orchx.cli.screen import console, print_json, print_json_line
from orchx.cli.workflow_view import event_line

app = typer.Typer(add_completion=False)


@app.command("history")
def history(
    workflow_id: WorkflowId,
    follow: Annotated[
        bool, typer.Option("--follow", help="Stay for what happens next, until it ends.")
    ] = False,
    raw: Annotated[bool, typer.Option("--raw", help="One CloudEvent a line, as JSON.")] = False,
    after: Annotated[
        int | None, typer.Option("--after", min=0, help="Only what is behind this log offset.")
    ] = None,
    url: Url = None,
    api_key: ApiKey = None,
    json_: Json = False,
) -> None:
    """Show what has happened to a workflow.

    With --json it is one array of CloudEvents; with --json and --follow, one a line.
    """
    with connect(url, api_key) as client:
        read = client.follow if follow else client.history
        events = read(workflow_id, after=after)
        if json_ and not follow and not raw:
            print_json([event.raw for event in events])
            return
        screen = console()
        for event in events:
            if raw or json_:
                print_json_line(event.raw)
            else:
                screen.print(event_line(event), soft_wrap=True)
