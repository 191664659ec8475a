"""What `orchx demo` does: a whole enterprise for a minute, and its books audited at the end."""

from __future__ import annotations

import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Final

from rich.console import Console

from orchx.cli.demo_accounting import Account
from orchx.cli.demo_command import DemoOptions
from orchx.cli.demo_report import print_next
from orchx.cli.demo_show import Show
from orchx.cli.demo_stage import stage
from orchx.cli.screen import console

TERMINATED: Final = 143  # 128 + SIGTERM, as shells have it


def run_demo(options: DemoOptions) -> int:
    """Run the demo. Returns 0 if nothing was lost or doubled and all ended as it was meant to."""
    screen = console()
    aside = Console(stderr=True, highlight=False) if options.json else screen
    account: Account | None = None
    data_dir = Path(tempfile.mkdtemp(prefix="orchx-demo-"))
    try:
        with _terminable():
            aside.print("Starting the sandbox, Ray, the engine and the HTTP ingress …")
            with stage(data_dir) as started, _terminable():  # again: Ray put its own handler there
                account = Show(started, options, screen, aside).play()
                if options.keep:
                    _print_result(aside, account)
                    print_next(aside, started)
                    _wait_for_ctrl_c()
    finally:
        stopped_early = isinstance(sys.exception(), (KeyboardInterrupt, SystemExit))
        went_well = account is not None and not account.findings
        if went_well or stopped_early:
            shutil.rmtree(data_dir, ignore_errors=True)
        else:
            aside.print(f"The run's logs, ledgers and inboxes are in {data_dir}", soft_wrap=True)
    if not options.keep and went_well and not options.json:
        aside.print("[dim]orchx demo --keep leaves it all running, to look into.[/]")
    _print_result(aside, account)
    return 1 if account.findings else 0


def _print_result(aside: Console, account: Account) -> None:
    aside.print(account.last_line(), soft_wrap=True, markup=False, highlight=False)


def _wait_for_ctrl_c() -> None:
    try:
        signal.pause()
    except KeyboardInterrupt:
        return


def _leave(number: int, frame: FrameType | None) -> None:
    raise SystemExit(TERMINATED)


@contextmanager
def _terminable() -> Iterator[None]:
    """Let SIGTERM end the demo as Ctrl-C does: with everything stopped."""
    before = signal.signal(signal.SIGTERM, _leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
