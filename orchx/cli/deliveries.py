"""`orchx deliveries`."""

from __future__ import annotations

import asyncio
import itertools
from datetime import UTC, datetime
from typing import Annotated, Final, Literal

import typer

from orchx.adapters.webhook_secret import checked_secret, tenant_secret
from orchx.cli.environment_settings import read_settings
from orchx.cli.failures import UsageError
from orchx.cli.options import DEFAULT_DATA_DIR, ApiKey, DataDir, Json, Url, connect
from orchx.cli.screen import age, console, errors_console, one_line, print_json, table
from orchx.client import Client
from orchx.domain.names import TENANT_IN_WORDS, is_tenant
from orchx.stores import stored_webhook_secret

REPLAYED_AT_ONCE: Final = 500
MAX_REPLAYED: Final = 1_000_000

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
    limit: Annotated[int, typer.Option("--limit", min=1, help="How many at most.")] = 100,
    url: Url = None,
    api_key: ApiKey = None,
    json_: Json = False,
) -> None:
    """List webhook messages and how far they got."""
    with connect(url, api_key) as client:
        # One more than shown tells whether there are more.
        found = [*client.deliveries.list(status=status, workflow=workflow, limit=limit + 1)]
    shown, more = found[:limit], len(found) > limit
    if json_:
        print_json({"deliveries": shown, "more": more})
        return
    if not shown:
        console().print("No deliveries.")
        return
    now = datetime.now(UTC)
    made = table("ID", "STATUS", "WORKFLOW", "TRIES", "AGE", "URL", "ERROR", grow="URL")
    for each in shown:
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
    if more:
        console().print(f"There are more: --limit {limit * 2} shows them.", style="dim")


@app.command("replay")
def replay(
    ids: Annotated[list[str] | None, typer.Argument(metavar="[ID...]")] = None,
    all_: Annotated[
        bool, typer.Option("--all", help="All that are undelivered now, each once.")
    ] = False,
    url: Url = None,
    api_key: ApiKey = None,
    json_: Json = False,
) -> None:
    """Send undelivered webhooks again."""
    if bool(ids) == all_:
        raise UsageError("name the deliveries, or give --all")
    with connect(url, api_key) as client:
        count = _replay_all(client) if all_ else client.deliveries.replay(ids or ())
    if json_:
        print_json({"replayed": count})
    else:
        console().print(f"{count} will be sent again")
        if count == MAX_REPLAYED:
            console().print("There are more: run it again.", style="dim")


@app.command("secret")
def secret(
    tenant: Annotated[str, typer.Option("--tenant", help="Whose receivers will know it.")],
    data_dir: DataDir = DEFAULT_DATA_DIR,
    json_: Json = False,
) -> None:
    """Print the secret that a tenant's webhooks are signed with.

    Each tenant has its own. It is derived from the server's, which is in the data folder (with
    ORCHX_PROFILE=kafka in MongoDB), or in ORCHX_WEBHOOKS__SECRET: if the server was started with
    that, give it here too.
    """
    if not is_tenant(tenant):
        raise UsageError(f"{tenant!r} cannot be a tenant", f"A tenant is {TENANT_IN_WORDS}.")
    settings = read_settings().model_copy(update={"data_dir": data_dir})
    if settings.profile == "embedded" and not data_dir.is_dir():
        raise UsageError(f"there is no folder {data_dir}", "Say where the data is: --data-dir.")
    master = settings.webhooks.secret or asyncio.run(stored_webhook_secret(settings))
    if master is None:
        where = data_dir if settings.profile == "embedded" else "MongoDB"
        raise UsageError(
            f"there is no secret in {where}",
            "Start the server on it once, or set ORCHX_WEBHOOKS__SECRET as the server has it.",
        )
    derived = tenant_secret(checked_secret(master), tenant)
    if json_:
        print_json({"tenant": tenant, "secret": derived})
        return
    typer.echo(derived)
    errors_console().print(f"For the receivers of {tenant}, and for nobody else.", style="dim")


def _replay_all(client: Client) -> int:
    """Replay what is undelivered, from the oldest to the newest: what fails again stays."""
    found = client.deliveries.list(status="undelivered", limit=MAX_REPLAYED)
    count = 0
    while chosen := [each.id for each in itertools.islice(found, REPLAYED_AT_ONCE)]:
        count += client.deliveries.replay(chosen)
    return count
