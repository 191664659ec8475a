"""`orchx cancel`."""

from __future__ import annotations

from typing import Annotated

import typer

from orchx.cli.options import ApiKey, Json, Url, WorkflowId, connect
from orchx.cli.screen import console, print_json

app = typer.Typer(add_completion=False)


@app.command("cancel")
def cancel(
    workflow_id: WorkflowId,
    reason: Annotated[
        str | None, typer.Option("--reason", help="Kept in its history; up to 1000 characters.")
    ] = None,
    url: Url = None,
    api_key: ApiKey = None,
    json_: Json = False,
) -> None:
    """Cancel a workflow."""
    with connect(url, api_key) as client:
        receipt = client.cancel(workflow_id, reason=reason)
    if json_:
        print_json(receipt)
    else:
        text = "was cancelled before" if receipt.replayed else "will be cancelled"
        console().print(f"{workflow_id} {text}", markup=False, soft_wrap=True)
