"""What goes to the screen: consoles, tables, times, JSON."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any, Final

import msgspec
from rich.console import Console
from rich.table import Table
from rich.text import Text

PIPE_COLUMNS: Final = 160  # tables that go to a file are cut by nobody

# Colour never stands alone: the icon says the same.
ICONS: Final = {
    "pending": ("·", "dim"),
    "running": ("▶", "blue"),
    "waiting": ("◷", "yellow"),
    "suspended": ("⏸", "yellow"),
    "retrying": ("↻", "yellow"),
    "completed": ("✔", "green"),
    "faulted": ("✘", "red"),
    "caught": ("✘", "yellow"),
    "cancelled": ("⊘", "magenta"),
    "skipped": ("→", "dim"),
}


class _PipeConsole(Console):
    """A console that leaves a closed pipe to `failures.handled`."""

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError


def console() -> Console:
    """Return the console for results. rich honours NO_COLOR and what is no terminal."""
    made = _PipeConsole(file=sys.stdout, highlight=False, soft_wrap=False)
    if not made.is_terminal:
        made.width = max(made.width, PIPE_COLUMNS)
    return made


def errors_console() -> Console:
    """Return the console for messages, on stderr."""
    return Console(stderr=True, highlight=False, soft_wrap=True)


def print_json(value: Any) -> None:
    """Print a value as indented JSON; the names are those of the HTTP API."""
    sys.stdout.write(msgspec.json.format(encode(value), indent=2).decode() + "\n")


def print_json_line(value: Any) -> None:
    """Print a value as one line of JSON and let it out at once."""
    sys.stdout.write(encode(value).decode() + "\n")
    sys.stdout.flush()


def encode(value: Any) -> bytes:
    """Return a value as JSON, with times as the HTTP API writes them."""
    plain = msgspec.to_builtins(value, builtin_types=(datetime,))
    return msgspec.json.encode(_with_times(plain))


def _with_times(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _with_times(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_with_times(item) for item in value]
    if isinstance(value, datetime):
        text = value.astimezone(UTC).isoformat(timespec="milliseconds")
        return text.removesuffix("+00:00") + "Z"
    return value


def table(*columns: str, right: Iterable[str] = (), grow: str = "") -> Table:
    """Return an empty table; `right` names columns of numbers, `grow` the one that gives way."""
    made = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 2, 0, 0))
    for column in columns:
        made.add_column(
            column,
            justify="right" if column in right else "left",
            # rich narrows the columns that may wrap before all others.
            no_wrap=column != grow,
            overflow="ellipsis",
        )
    return made


def one_line(text: str | Text) -> Text:
    """Return a cell for the column that gives way: cut, not wrapped."""
    cell = text if isinstance(text, Text) else Text(text)
    cell.no_wrap, cell.overflow = True, "ellipsis"
    return cell


def status_text(status: str) -> Text:
    """Return a status with its icon and colour."""
    icon, style = ICONS.get(status, ("?", ""))
    return Text(f"{icon} {status}", style=style)


def age(at: datetime | None, now: datetime) -> str:
    """Return how long ago something was, in its largest unit."""
    return "" if at is None else span(max((now - at).total_seconds(), 0.0), coarse=True)


def span(seconds: float, *, coarse: bool = False) -> str:
    """Return a length of time for people: `12 ms`, `3.4 s`, `5m 20s`, `2d 3h`."""
    if seconds < 1 and not coarse:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 60:
        return f"{seconds:.0f}s" if coarse else f"{seconds:.1f} s"
    for size, unit, part, part_unit in ((86400, "d", 3600, "h"), (3600, "h", 60, "m")):
        if seconds >= size:
            whole, rest = divmod(int(seconds), size)
            return f"{whole}{unit}" if coarse else f"{whole}{unit} {rest // part}{part_unit}"
    whole, rest = divmod(int(seconds), 60)
    return f"{whole}m" if coarse else f"{whole}m {rest}s"


def clock_time(at: datetime | None) -> str:
    """Return a time in the user's own zone, to the second."""
    return "" if at is None else at.astimezone().strftime("%Y-%m-%d %H:%M:%S %Z")
