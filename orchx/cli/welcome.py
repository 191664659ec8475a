"""What `orchx up` tells once it takes requests: where it is, and what to type next."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from pathlib import Path

from rich.console import Console
from rich.panel import Panel

from orchx.cli.example_files import examples_folder
from orchx.cli.installed import near, orchx_command
from orchx.cli.options import DEFAULT_DATA_DIR
from orchx.client.connection import DEFAULT_URL
from orchx.serve.server import Running
from orchx.settings import Settings


def print_welcome(
    console: Console, settings: Settings, running: Running, *, examples: bool, stays: bool = False
) -> None:
    """Print it; commands stand on lines of their own, so that they can be copied.

    `stays`: it goes on when this command has ended.
    """
    lines = [f"[bold]orchx[/bold] takes requests at [bold]{running.url}[/bold]"]
    data = settings.data_dir if settings.profile == "embedded" else "Kafka, MongoDB and Redis"
    lines.append(f"ready after {running.started_s:.1f} s, data in {data}")
    nodes = {node.id for node in running.nodes.values()}
    if len(nodes) > 1:
        lines.append(f"on {len(nodes)} nodes of the cluster")
    if examples:
        lines.append("the examples are published, and the services that they call are running")
    if settings.http.authentication == "off":
        lines.append("no API key is asked for (loopback only)")
    console.print(Panel("\n".join(lines), expand=False))
    for line in next_steps(settings, running, examples=examples, stays=stays):
        console.print(line, soft_wrap=True, markup=False, highlight=False)


def next_steps(
    settings: Settings, running: Running, *, examples: bool, stays: bool = False
) -> Iterator[str]:
    """Yield the lines that say what to type, in another terminal."""
    orchx = orchx_command()
    if running.admin_key is not None:
        yield "There was no API key yet. The one below may do everything; it is shown only now."
    yield "In another terminal:"
    yield ""
    if running.url != DEFAULT_URL:
        yield f"  export ORCHX_URL={running.url}"
    if running.admin_key is not None:
        yield f"  export ORCHX_API_KEY={running.admin_key}"
    elif settings.http.authentication != "off":
        where = "" if settings.data_dir == DEFAULT_DATA_DIR else f" --data-dir {_quoted(settings)}"
        yield f"  export ORCHX_API_KEY=$({orchx} keys create me --scope admin{where})"
    if examples:
        request = examples_folder() / "requests" / "expense-reimbursement.json"
        yield f"  {orchx} submit --file {_typed(request)} --follow"
    else:
        yield f"  {orchx} doctor"
    yield ""
    yield f"Log lines: {running.logs}/worker-*.err"
    yield "`orchx down` stops it." if stays else "Ctrl-C stops it."


def _quoted(settings: Settings) -> str:
    return shlex.quote(str(settings.data_dir))


def _typed(path: Path) -> str:
    return shlex.quote(near(path))
