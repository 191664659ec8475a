"""Options that commands share, and how they read their arguments."""

from __future__ import annotations

import json
import sys
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, TypeAlias

import typer

from orchx.cli.failures import JSON_WANTED, UsageError
from orchx.client import Client


def _remember_json(context: typer.Context, wanted: bool) -> bool:
    context.meta[JSON_WANTED] = wanted
    return wanted


Url: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--url",
        envvar="ORCHX_URL",
        show_envvar=False,
        rich_help_panel="Server",
        help="Where the server is; else ORCHX_URL, else http://127.0.0.1:8600.",
    ),
]
ApiKey: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--api-key",
        envvar="ORCHX_API_KEY",
        show_envvar=False,
        rich_help_panel="Server",
        help="Key to show it; better in ORCHX_API_KEY, where ps does not see it.",
    ),
]
Json: TypeAlias = Annotated[
    bool, typer.Option("--json", callback=_remember_json, help="Print JSON, for programs.")
]
DataDir: TypeAlias = Annotated[
    Path,
    typer.Option("--data-dir", envvar="ORCHX_DATA_DIR", help="Where the server keeps its data."),
]
WorkflowId: TypeAlias = Annotated[str, typer.Argument(metavar="ID", help="Id of a workflow.")]

DEFAULT_DATA_DIR = Path("orchx-data")


def connect(url: str | None, api_key: str | None) -> Client:
    """Return a client; without a URL or key, from the environment or the defaults."""
    return Client(url, api_key=api_key)


def read_json(text: str, option: str) -> Any:
    """Return the JSON that an option gives: itself, `@FILE`, or `-` for standard input.

    Raises:
        UsageError: it is no JSON, or there is no such file.
    """
    if text == "-":
        source, where = sys.stdin.read(), "standard input"
    elif text.startswith("@"):
        source, where = read_text(Path(text[1:])), text[1:]
    else:
        source, where = text, option
    return parse_json(source, where, option)


def parse_json(source: str, where: str, option: str) -> Any:
    """Return a text's JSON.

    Raises:
        UsageError: it is none; the message says `where` it came from.
    """
    try:
        return json.loads(source)
    except (ValueError, RecursionError) as error:
        hint = f"""Give JSON, quoted: {option} '{{"name": "Ada"}}', or @FILE, or - for stdin."""
        raise UsageError(f"{where} is not JSON: {error}", hint) from error


def read_text(path: Path) -> str:
    """Return a file's text.

    Raises:
        UsageError: it cannot be read, or is not UTF-8.
    """
    try:
        return sys.stdin.read() if str(path) == "-" else path.read_text(encoding="utf-8")
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{path} is not UTF-8 text") from error


def read_time(text: str | None, option: str) -> datetime | None:
    """Return a time given as RFC 3339; without a zone it is the user's own.

    Raises:
        UsageError: it is none.
    """
    if text is None:
        return None
    try:
        return datetime.fromisoformat(text).astimezone()
    except ValueError as error:
        raise UsageError(f"{option} {text}: is no time", "Like 2026-03-01T12:00:00Z.") from error


def read_reference(text: str) -> tuple[str, str, str]:
    """Return namespace, name and version of `NAMESPACE/NAME[:VERSION]`.

    Raises:
        UsageError: it is something else.
    """
    path, _, version = text.partition(":")
    namespace, slash, name = path.partition("/")
    if not (slash and namespace and name and "/" not in name):
        raise UsageError(f"{text}: is no definition", "Like hr/onboarding or hr/onboarding:1.2.0.")
    return namespace, name, version or "latest"


def read_labels(pairs: list[str] | None) -> dict[str, str]:
    """Return the labels that `--label KEY=VALUE` gives.

    Raises:
        UsageError: one is no such pair.
    """
    labels = {}
    for pair in pairs or ():
        name, equals, value = pair.partition("=")
        if not equals or not name:
            raise UsageError(f"--label {pair}: is no KEY=VALUE")
        labels[name] = value
    return labels
