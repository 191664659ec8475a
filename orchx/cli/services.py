"""`orchx services`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml

from orchx.cli.failures import UsageError
from orchx.cli.options import ApiKey, Json, Url, connect, read_text
from orchx.cli.screen import console, one_line, print_json, table

app = typer.Typer(add_completion=False, no_args_is_help=True)


@app.callback()
def services() -> None:
    """Services that provide capabilities."""


@app.command("list")
def list_services(url: Url = None, api_key: ApiKey = None, json_: Json = False) -> None:
    """List services and the capabilities that they provide."""
    with connect(url, api_key) as client:
        found = client.services.list()
    if json_:
        print_json({"services": found})
        return
    if not found:
        console().print("No services: `orchx services put FILE` adds some.")
        return
    made = table("SERVICE", "URL", "CAPABILITY", "CALL", "LIMITS", grow="CALL")
    for service in found:
        rate = "" if service.rate_per_s is None else f", {service.rate_per_s:g}/s"
        limits = f"{service.concurrency} at once{rate}"
        calls = [
            (each.capability, each.operation_id or f"{each.method} {each.path}")
            for each in service.operations
        ]
        for position, (capability, call) in enumerate(calls or [("", "")]):
            head = (service.name, service.base_url, limits) if position == 0 else ("", "", "")
            made.add_row(head[0], head[1], capability, one_line(call), head[2])
    console().print(made)


@app.command("put")
def put(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="YAML or JSON; - is stdin.")],
    url: Url = None,
    api_key: ApiKey = None,
    json_: Json = False,
) -> None:
    """Create services, or replace those of the same name; others stay."""
    services_ = _services_in(file)
    with connect(url, api_key) as client:
        stored = client.services.put(services_)
    if json_:
        print_json({"services": stored})
    else:
        names = ", ".join(str(service.get("name")) for service in services_)
        console().print(f"stored: {names}", markup=False, soft_wrap=True)


def _services_in(file: Path) -> list[Mapping[str, Any]]:
    try:
        content = yaml.safe_load(read_text(file))
    except yaml.YAMLError as error:
        raise UsageError(f"{file} is neither YAML nor JSON: {error}") from error
    if isinstance(content, Mapping):
        content = content.get("services", [content])
    if not isinstance(content, list) or not all(isinstance(each, Mapping) for each in content):
        raise UsageError(
            f"{file} holds no services",
            "Like: services: [{name: it-desk, baseUrl: https://it.example.com, operations: []}]",
        )
    return content
