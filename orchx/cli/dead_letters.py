"""`orchx dead-letters`."""

from __future__ import annotations

import base64
import itertools
import sys
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from orchx.cli.failures import REFUSED, UsageError
from orchx.cli.options import ApiKey, Json, Url, connect, read_text
from orchx.cli.screen import age, clock_time, console, errors_console, one_line, print_json, table
from orchx.client import Client
from orchx.client.models import DeadLetter, LetterHandled, Octets, ReplayedLetter

AT_ONCE: Final = 100
PAGE: Final = 1_000
MAX_PAGES: Final = 1_000
SHOWN_CHARS: Final = 4_000

app = typer.Typer(add_completion=False, no_args_is_help=True)

Number = Annotated[int, typer.Argument(metavar="NUMBER", min=0, help="As `list` shows it.")]
Numbers = Annotated[list[int] | None, typer.Argument(metavar="[NUMBER...]", min=0)]


@app.callback()
def dead_letters() -> None:
    """Records that could not be read: list, replay, drop."""


@app.command("list")
def list_dead_letters(
    all_: Annotated[
        bool, typer.Option("--all", help="Those that were replayed or dropped, too.")
    ] = False,
    after: Annotated[int | None, typer.Option("--after", metavar="NUMBER", min=0)] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, max=PAGE, help="How many at most.")] = 100,
    url: Url = None,
    api_key: ApiKey = None,
    json_: Json = False,
) -> None:
    """List records that could not be read, oldest first."""
    with connect(url, api_key) as client:
        page = client.dead_letters.list(handled=all_, after=after, limit=limit)
    if json_:
        print_json(page)
        return
    if not page.dead_letters:
        console().print("No dead letters.")
    else:
        console().print(_listing(page.dead_letters))
    if not page.kept:
        note = "There never are any on this server: nobody but orchx writes to its files."
        console().print(note, style="dim")
    if page.after is not None:
        console().print(f"There are more: --after {page.after} shows them.", style="dim")
    if page.unread:
        console().print(f"{page.unread} older records were not looked at.", style="yellow")


@app.command("show")
def show(
    number: Number,
    value: Annotated[
        bool, typer.Option("--value", help="Print its value and nothing else, to be edited.")
    ] = False,
    url: Url = None,
    api_key: ApiKey = None,
    json_: Json = False,
) -> None:
    """Show a dead letter: where it stood, what is wrong with it, what it holds."""
    with connect(url, api_key) as client:
        letter = client.dead_letters.show(number)
    if value:
        if "value" in letter.cut:
            errors_console().print("It was too large to be kept whole.", style="yellow")
        sys.stdout.flush()
        sys.stdout.buffer.write(_bytes(letter.value))
    elif json_:
        print_json(letter)
    else:
        console().print(_detail(letter))


@app.command("replay")
def replay(
    numbers: Numbers = None,
    all_: Annotated[
        bool, typer.Option("--all", help="All commands that wait here now, each once.")
    ] = False,
    file: Annotated[
        Path | None,
        typer.Option("--file", help="The command's JSON to run instead; `-` is stdin."),
    ] = None,
    url: Url = None,
    api_key: ApiKey = None,
    json_: Json = False,
) -> None:
    """Have the commands of dead letters run.

    After an upgrade that can read them, or with --file, mended. However often this is done, a
    command runs once: it has an id. What could be sent is not listed any more. Needs a key with
    the scope admin.
    """
    _check_choice(numbers, all_)
    if file is not None and len(numbers or ()) != 1:
        raise UsageError("--file goes with one number")
    text = None if file is None else read_text(file)
    with connect(url, api_key) as client:
        chosen = _open_commands(client) if all_ else iter(numbers or ())
        done = [
            one
            for some in _in_parts(chosen)
            for one in client.dead_letters.replay(some, value=text)
        ]
    if json_:
        print_json({"results": done})
    else:
        _print_replayed(done)
    if any(one.error is not None for one in done):
        raise typer.Exit(REFUSED)


@app.command("drop")
def drop(
    numbers: Numbers = None,
    all_: Annotated[bool, typer.Option("--all", help="All that are listed now.")] = False,
    reason: Annotated[str, typer.Option("--reason", help="For whoever asks later.")] = "",
    url: Url = None,
    api_key: ApiKey = None,
    json_: Json = False,
) -> None:
    """Mark dead letters as needing nothing more; `list --all` shows them still."""
    _check_choice(numbers, all_)
    with connect(url, api_key) as client:
        chosen = (one.number for one in _open(client)) if all_ else iter(numbers or ())
        count = sum(client.dead_letters.drop(some, reason=reason) for some in _in_parts(chosen))
    if json_:
        print_json({"dropped": count})
    else:
        console().print(f"{count} dropped")
    if not all_ and count < len(set(numbers or ())):
        raise typer.Exit(REFUSED)


def _check_choice(numbers: list[int] | None, all_: bool) -> None:
    if bool(numbers) == all_:
        raise UsageError("name the dead letters by number, or give --all")


def _open(client: Client) -> Iterator[DeadLetter]:
    """Yield what nobody has dealt with, page by page."""
    after = None
    for _ in range(MAX_PAGES):
        page = client.dead_letters.list(after=after, limit=PAGE)
        yield from page.dead_letters
        after = page.after
        if after is None:
            return


def _open_commands(client: Client) -> Iterator[int]:
    return (one.number for one in _open(client) if one.kind == "command")


def _in_parts(numbers: Iterator[int]) -> Iterator[list[int]]:
    while some := list(itertools.islice(numbers, AT_ONCE)):
        yield some


def _print_replayed(done: Sequence[ReplayedLetter]) -> None:
    screen = console()
    for one in done:
        line = Text(f"{one.number}  ")
        if one.error is not None:
            line.append(f"not sent: {one.error}", style="red")
        elif one.replayed:
            line.append(f"{one.command_id} had been taken before: it runs once")
        else:
            line.append(f"{one.command_id} is taken")
        screen.print(line)
    if not done:
        screen.print("No commands wait here.")


def _listing(letters: Iterable[DeadLetter]) -> Table:
    columns = ("NUMBER", "FROM", "AGE", "BYTES", "ERROR", "BEGINS", "")
    made = table(*columns, right=("NUMBER", "AGE", "BYTES"), grow="BEGINS")
    now = datetime.now(UTC)
    for each in letters:
        times = f" ({each.copies} copies)" if each.copies > 1 else ""
        made.add_row(
            str(each.number),
            _printable(f"{each.topic}/{each.partition} at {each.offset}{times}"),
            age(each.kept_at, now),
            str(each.size_bytes),
            one_line(_printable(each.error)),
            one_line(_printable(each.preview)),
            "" if each.handled is None else each.handled.how,
        )
    return made


def _detail(letter: DeadLetter) -> RenderableType:
    facts = Table.grid(padding=(0, 2))
    facts.add_column(style="bold")
    facts.add_column(overflow="fold")
    for name, told in _facts(letter):
        facts.add_row(name, Text(told))
    return Group(facts, Text("value", style="bold"), Text(_excerpt(letter)))


def _facts(letter: DeadLetter) -> Iterator[tuple[str, str]]:
    yield "number", str(letter.number)
    yield "from", _printable(f"{letter.topic}, partition {letter.partition}, at {letter.offset}")
    yield "written", clock_time(letter.at)
    copies = f", {letter.copies} copies" if letter.copies > 1 else ""
    yield "kept", clock_time(letter.kept_at) + copies
    yield "wrong", _printable(letter.error)
    if letter.key is not None:
        yield "key", _text(letter.key)
    for header in letter.headers:
        yield "header", f"{_printable(header.name)}: {_text(header.value)}"
    whole = "" if not letter.cut else f", cut: {', '.join(letter.cut)}"
    yield "size", f"{letter.size_bytes} bytes{whole}"
    if letter.handled is not None:
        yield "handled", _handled(letter.handled)


def _handled(handled: LetterHandled) -> str:
    told = f"{handled.how} by {handled.by}, {clock_time(handled.at)}"
    return _printable(f"{told}: {handled.note}" if handled.note else told)


def _excerpt(letter: DeadLetter) -> str:
    if letter.value is None:
        return "none"
    text = _text(letter.value)
    more = len(text) - SHOWN_CHARS
    return text if more <= 0 else f"{text[:SHOWN_CHARS]}\n… {more} more characters: use --value"


def _text(content: Octets) -> str:
    """Return what can be shown of some bytes: no control characters reach the terminal."""
    if content.text is None:
        return f"base64 {content.base64 or ''}"
    return _printable(content.text)


def _printable(text: str) -> str:
    return "".join(one if one.isprintable() or one == "\n" else "�" for one in text)


def _bytes(content: Octets | None) -> bytes:
    if content is None:
        return b""
    if content.text is None:
        return base64.b64decode(content.base64 or "")
    return content.text.encode()
