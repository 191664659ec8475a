"""The demo on the screen while it runs: a table that changes in place, or a line now and then."""

from __future__ import annotations

import time
from typing import Any, Final, Protocol

from rich import box
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from orchx.cli.demo_board import Board
from orchx.cli.demo_chaos import in_words
from orchx.cli.demo_watch import Progress, Watch
from orchx.cli.screen import one_line, print_json_line

NEWS_SHOWN: Final = 10
LINE_EVERY_S: Final = 3.0
_BAR_COLUMNS: Final = 24


class View(Protocol):
    """Shows how the demo goes."""

    def begin(self, title: str) -> None:
        """Start showing."""
        ...

    def show(self, watch: Watch, board: Board) -> None:
        """Show how things stand."""
        ...

    def end(self) -> None:
        """Stop showing; may be called twice."""
        ...


class LiveView:
    """For terminals: one picture that changes in place and stays at the end."""

    def __init__(self, screen: Console) -> None:
        self._live = Live(console=screen, auto_refresh=False, transient=False)
        self._title = ""

    def begin(self, title: str) -> None:
        """Start showing."""
        self._title = title
        self._live.start()

    def show(self, watch: Watch, board: Board) -> None:
        """Draw the picture anew."""
        self._live.update(picture(self._title, watch, board), refresh=True)

    def end(self) -> None:
        """Leave the picture as it is."""
        self._live.stop()


class PlainView:
    """For everything else: a line every few seconds, or a JSON object a line."""

    def __init__(self, screen: Console, *, as_json: bool) -> None:
        self._screen = screen
        self._as_json = as_json
        self._next_s = 0.0
        self._told_s = 0.0

    def begin(self, title: str) -> None:
        """Say what begins."""
        if not self._as_json:
            self._screen.print(title, soft_wrap=True)

    def show(self, watch: Watch, board: Board) -> None:
        """Print a line, if the last one is some seconds old."""
        if time.monotonic() < self._next_s:
            return
        self._next_s = time.monotonic() + LINE_EVERY_S
        facts = {"atS": round(board.elapsed_s(), 1), **_facts(watch, board)}
        news = [one for one in board.news(NEWS_SHOWN) if one.at_s > self._told_s]
        self._told_s = news[-1].at_s if news else self._told_s
        if self._as_json:
            print_json_line({"progress": facts, "news": [one.words for one in news]})
            return
        line = (
            f"{facts['atS']:5.1f} s  submitted {facts['submitted']}, completed"
            f" {facts['completed']}, failed {facts['failed']}, waiting {facts['waiting']},"
            f" retries {facts['retries']}, faults {facts['faults']}"
        )
        self._screen.print(line + (f" | {news[-1].words}" if news else ""), soft_wrap=True)

    def end(self) -> None:
        """Nothing is left open."""


def picture(title: str, watch: Watch, board: Board) -> RenderableType:
    """Return the whole picture: counts by type, what is going wrong, the latest news."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold", expand=False)
    table.add_column("request", no_wrap=True, min_width=21)
    for name in ("asked", "running", "waiting", "completed", "failed"):
        table.add_column(name, justify="right", no_wrap=True, min_width=len(name))
    table.add_column("", width=_BAR_COLUMNS)
    progress = watch.progress()
    for kind, one in progress.items():
        table.add_row(kind, *_numbers(one), _bar(one))
    total = Progress(
        **{
            name: sum(getattr(one, name) for one in progress.values())
            for name in Progress.__slots__
        }
    )
    table.add_section()
    table.add_row("[bold]all", *_numbers(total), _bar(total))
    faults = Text("gone wrong: ", style="bold")
    faults.append(in_words(board.injected()) or "nothing yet", style="not bold yellow")
    head = Text(title, style="bold").append(f"   {board.elapsed_s():.0f} s", style="dim")
    return Group(head, table, faults, Text(""), *_news(board))


def _numbers(one: Progress) -> list[str]:
    return [str(number or "·") for number in _counts(one)]


def _counts(one: Progress) -> tuple[int, ...]:
    return (one.total, one.running, one.waiting, one.completed, one.failed)


def _bar(one: Progress) -> ProgressBar:
    return ProgressBar(
        total=max(one.total, 1),
        completed=one.over,
        width=_BAR_COLUMNS,
        complete_style="green",
        finished_style="green",
    )


def _news(board: Board) -> list[RenderableType]:
    news = board.news(NEWS_SHOWN)
    lines: list[RenderableType] = [
        one_line(
            Text(f"{one.at_s:5.1f} s  ", style="dim").append(
                one.words, style=f"not dim {one.style}"
            )
        )
        for one in news
    ]
    return lines + [Text("")] * (NEWS_SHOWN - len(lines))


def _facts(watch: Watch, board: Board) -> dict[str, Any]:
    progress = watch.progress().values()
    return {
        "submitted": len(board.acknowledged()),
        "completed": sum(one.completed for one in progress),
        "failed": sum(one.failed for one in progress),
        "waiting": sum(one.waiting for one in progress),
        "retries": watch.retries(),
        "faults": board.injected().total(),
    }
