"""`orchx keys`: where the server's settings say that its keys are.

In the data directory, on the server's own machine; or in MongoDB (`ORCHX_PROFILE=kafka`).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_args

import typer

from orchx.cli.environment_settings import read_settings
from orchx.cli.failures import UsageError
from orchx.cli.options import DEFAULT_DATA_DIR, DataDir, Json
from orchx.cli.screen import age, console, errors_console, print_json, table
from orchx.domain.names import TENANT_IN_WORDS, is_tenant
from orchx.ports.key_store import SCOPES, ApiKey, KeyStore, Scope
from orchx.serve.api_keys import create_api_key
from orchx.stores import open_stores

T = TypeVar("T")

app = typer.Typer(add_completion=False, no_args_is_help=True)


@app.callback()
def keys() -> None:
    """API keys of the server.

    Of the one whose data is here; or, with ORCHX_PROFILE=kafka, whose MongoDB the settings name.
    """


@app.command("create")
def create(
    name: Annotated[str, typer.Argument(help="Who will use it, for people to read.")],
    scope: Annotated[
        list[str],
        typer.Option(
            "--scope", metavar="|".join(SCOPES), help="What it may do; repeatable; admin may all."
        ),
    ],
    tenant: Annotated[
        str | None, typer.Option("--tenant", help="It sees and submits for this one only.")
    ] = None,
    data_dir: DataDir = DEFAULT_DATA_DIR,
    json_: Json = False,
) -> None:
    """Make a key and print it; it is shown this once."""
    scopes = [known for known in get_args(Scope) if known in scope]
    if set(scope) - set(scopes):
        raise UsageError(f"--scope is one of {', '.join(SCOPES)}")
    if tenant is not None and not is_tenant(tenant):
        raise UsageError(f"--tenant {tenant!r}: is no tenant", f"It is {TENANT_IN_WORDS}.")

    async def made(store: KeyStore) -> tuple[ApiKey, str]:
        return await create_api_key(
            store, name=name, scopes=scopes, now_ms=_now_ms(), tenant=tenant
        )

    key, token = _with_store(data_dir, made)
    if json_:
        print_json({**_as_json(key), "token": token})
        return
    typer.echo(token)
    errors_console().print(
        "Keep it: it cannot be shown again. Use it as ORCHX_API_KEY, or with --api-key.",
        style="dim",
    )


@app.command("list")
def list_keys(data_dir: DataDir = DEFAULT_DATA_DIR, json_: Json = False) -> None:
    """List the keys, without their secrets."""
    found = _with_store(data_dir, lambda store: store.list())
    if json_:
        print_json({"keys": [_as_json(key) for key in found]})
        return
    if not found:
        where = data_dir if read_settings().profile == "embedded" else "MongoDB"
        console().print(f"No keys in {where}: `orchx keys create` makes one.", markup=False)
        return
    made = table("ID", "NAME", "SCOPES", "TENANT", "AGE", "")
    now = datetime.now(UTC)
    for key in found:
        created = datetime.fromtimestamp(key.created_at_ms / 1000, UTC)
        revoked = "revoked" if key.revoked_at_ms is not None else ""
        scopes = ", ".join(key.scopes)
        made.add_row(key.id, key.name, scopes, key.tenant or "any", age(created, now), revoked)
    console().print(made)


@app.command("revoke")
def revoke(
    key_id: Annotated[str, typer.Argument(metavar="ID", help="As `keys list` shows it.")],
    data_dir: DataDir = DEFAULT_DATA_DIR,
    json_: Json = False,
) -> None:
    """Make a key useless; servers notice within a second."""
    key = _with_store(data_dir, lambda store: store.revoke(key_id, now_ms=_now_ms()))
    if json_:
        print_json(_as_json(key))
    else:
        console().print(f"{key.id} ({key.name}) is revoked", markup=False)


def _with_store(data_dir: Path, use: Callable[[KeyStore], Awaitable[T]]) -> T:
    """Return what `use` makes of the keys, and close them."""
    settings = read_settings().model_copy(update={"data_dir": data_dir})

    async def used() -> T:
        store = open_stores(settings).key_store()
        try:
            return await use(store)
        finally:
            await store.close()

    return asyncio.run(used())


def _as_json(key: ApiKey) -> dict[str, Any]:
    return {
        "id": key.id,
        "name": key.name,
        "scopes": key.scopes,
        "tenant": key.tenant,
        "createdAt": datetime.fromtimestamp(key.created_at_ms / 1000, UTC),
        "revokedAt": None
        if key.revoked_at_ms is None
        else datetime.fromtimestamp(key.revoked_at_ms / 1000, UTC),
    }


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
