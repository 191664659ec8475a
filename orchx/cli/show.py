"""`orchx show`."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

import typer

from orchx.cli.options import ApiKey, Json, Url, WorkflowId, connect
from orchx.cli.progress import ProgressFold
from orchx.cli.screen import console, print_json
from orchx.cli.workflow_view import workflow_detail

app = typer.Typer(add_completion=False)


@app.command("show")
def show(
    workflow_id: WorkflowId,
    tasks: Annotated[
        bool, typer.Option("--tasks/--no-tasks", help="Show its tasks, from its history.")
    ] = True,
    strong: Annotated[
        bool,
        typer.Option("--strong", help="Wait until all is in it that has happened by now, or fail."),
    ] = False,
    url: Url = None,
    api_key: ApiKey = None,
    json_: Json = False,
) -> None:
    """Show one workflow.

    Where it stands, its tasks, its output or error. Without --strong it may be old: it
    says how old, and waits 0.25 s at most to know that. With --json it is the workflow as the
    HTTP API has it, without its tasks.
    """
    with connect(url, api_key) as client:
        workflow = client.show(workflow_id, consistency="strong" if strong else None)
        if json_:
            print_json(workflow)
            return
        fold = ProgressFold()
        if tasks:
            for event in client.history(workflow_id):
                fold.take(event)
    console().print(workflow_detail(workflow, fold.rows.values(), datetime.now(UTC)))
