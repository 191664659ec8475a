"""`orchx signal`."""

from __future__ import annotations

from typing import Annotated

import typer

from orchx.cli.options import ApiKey, Json, Url, connect, read_json
from orchx.cli.screen import console, print_json

ALL = "all"

app = typer.Typer(add_completion=False)


@app.command("signal")
def signal(
    workflow_id: Annotated[
        str, typer.Argument(metavar="ID|all", help="A workflow, or all that listen for it.")
    ],
    type_: Annotated[str, typer.Argument(metavar="TYPE", help="com.example.approved")],
    data: Annotated[
        str | None, typer.Option("--data", metavar="JSON|@FILE|-", help="What it says.")
    ] = None,
    source: Annotated[str, typer.Option("--source", help="Who says so.")] = "orchx-cli",
    event_id: Annotated[
        str | None, typer.Option("--event-id", help="The same one counts once; made if not given.")
    ] = None,
    url: Url = None,
    api_key: ApiKey = None,
    json_: Json = False,
) -> None:
    """Send an event to a workflow."""
    content = None if data is None else read_json(data, "--data")
    with connect(url, api_key) as client:
        if workflow_id == ALL:
            receipt = client.broadcast(type_, content, source=source, event_id=event_id)
        else:
            receipt = client.signal(workflow_id, type_, content, source=source, event_id=event_id)
    if json_:
        print_json(receipt)
    else:
        again = " (it had been sent before)" if receipt.replayed else ""
        to = "every workflow that listens" if workflow_id == ALL else workflow_id
        console().print(f"{type_} sent to {to}{again}", markup=False, soft_wrap=True)
