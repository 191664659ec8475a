"""`orchx definitions`."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from orchx.adapters.definition_source import read_definition
from orchx.cli.failures import UsageError
from orchx.cli.options import ApiKey, Json, Url, connect, read_reference, read_text
from orchx.cli.screen import age, console, print_json, table
from orchx.client import Definition

app = typer.Typer(add_completion=False, no_args_is_help=True)

Reference = Annotated[str, typer.Argument(metavar="NS/NAME[:VERSION]")]
Files = Annotated[list[Path], typer.Argument(metavar="FILE...", help="YAML or JSON; - is stdin.")]


@app.callback()
def definitions() -> None:
    """Workflow documents: publish, show, ..."""


@app.command("list")
def list_definitions(
    name: Annotated[
        str | None, typer.Argument(metavar="[NS/NAME]", help="All versions of this one.")
    ] = None,
    url: Url = None,
    api_key: ApiKey = None,
    json_: Json = False,
) -> None:
    """List the latest version of every definition, or all versions of one."""
    namespace, name_, _ = (None, None, None) if name is None else read_reference(name)
    with connect(url, api_key) as client:
        found = client.definitions.list(namespace, name_)
    if json_:
        print_json({"definitions": found})
    elif not found:
        console().print("No definitions: `orchx definitions publish FILE` adds one.")
    else:
        console().print(_table(found))


@app.command("show")
def show(
    reference: Reference, url: Url = None, api_key: ApiKey = None, json_: Json = False
) -> None:
    """Print a document as its author wrote it."""
    namespace, name, version = read_reference(reference)
    with connect(url, api_key) as client:
        if json_:
            print_json(client.definitions.show(namespace, name, version))
        else:
            source = client.definitions.source(namespace, name, version)
            typer.echo(source, nl=not source.endswith("\n"))


@app.command("publish")
def publish(
    files: Files,
    request_type: Annotated[
        str | None, typer.Option("--type", help="Requests of this type run it; one FILE only.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Let the server check, and store nothing.")
    ] = False,
    url: Url = None,
    api_key: ApiKey = None,
    json_: Json = False,
) -> None:
    """Publish workflow documents; the same one again is no error."""
    if request_type is not None and len(files) > 1:
        raise UsageError("--type goes with one FILE")
    published = []
    with connect(url, api_key) as client:
        for file in files:
            source = read_text(file)
            if not json_ and len(files) > 1:
                console().print(f"{file}: ", end="", markup=False)
            done = client.definitions.publish(source, request_type=request_type, dry_run=dry_run)
            published.append(done)
            if not json_:
                console().print(f"{_name_of(done)} {'is valid' if dry_run else 'is published'}")
    if json_:
        print_json({"definitions": published})


@app.command("validate")
def validate(files: Files, json_: Json = False) -> None:
    """Check workflow documents here, without a server.

    Whether their capabilities and child workflows exist, only the server knows:
    `publish --dry-run` asks it.
    """
    valid = []
    for file in files:
        if not json_ and len(files) > 1:
            console().print(f"{file}: ", end="", markup=False)
        definition = read_definition(read_text(file))
        reference = f"{definition.namespace}/{definition.name}:{definition.version}"
        valid.append({"file": str(file), "definition": reference, "digest": definition.digest})
        if not json_:
            console().print(f"{reference} is valid", markup=False)
    if json_:
        print_json({"valid": valid})


@app.command("retire")
def retire(
    reference: Reference, url: Url = None, api_key: ApiKey = None, json_: Json = False
) -> None:
    """Take a version out of use for new requests; what runs runs on."""
    namespace, name, version = read_reference(reference)
    if version == "latest":
        raise UsageError("a version is needed", f"Like {namespace}/{name}:1.0.0.")
    with connect(url, api_key) as client:
        client.definitions.retire(namespace, name, version)
    if json_:
        print_json({"retired": reference})
    else:
        console().print(f"{reference} is retired", markup=False)


def _table(found: Iterable[Definition]) -> Table:
    made = table("DEFINITION", "VERSION", "REQUEST TYPE", "AGE", "DIGEST", "")
    now = datetime.now(UTC)
    for each in found:
        made.add_row(
            f"{each.namespace}/{each.name}",
            each.version,
            each.request_type or "",
            age(each.created_at, now),
            each.digest[:12],
            "retired" if each.retired else "",
        )
    return made


def _name_of(definition: Definition) -> str:
    return f"{definition.namespace}/{definition.name}:{definition.version}"
