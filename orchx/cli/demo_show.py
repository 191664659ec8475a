"""The demo's course: systems submit, things go wrong, people decide, the books are audited."""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from typing import Final

from rich.console import Console

from orchx.cli.demo_accounting import Account, audit
from orchx.cli.demo_board import Board
from orchx.cli.demo_cases import SYSTEMS, draw_cases
from orchx.cli.demo_chaos import Chaos
from orchx.cli.demo_command import DemoOptions
from orchx.cli.demo_evidence import InboxReader, read_effects, read_inboxes, read_logs
from orchx.cli.demo_report import Survived, print_report, report_document
from orchx.cli.demo_sandbox import SandboxControl
from orchx.cli.demo_stage import Stage
from orchx.cli.demo_systems import EnterpriseSystem, People
from orchx.cli.demo_view import LiveView, PlainView, View
from orchx.cli.demo_watch import Watch
from orchx.cli.screen import print_json_line
from orchx.client import Client

LOOK_EVERY_S: Final = 0.4
DEADLINE_S: Final = 60.0
DEADLINE_S_PER_REQUEST: Final = 0.2
MISSING_SHOWN: Final = 5
SETTLE_S: Final = 0.5


class Show:
    """One run on a stage that is set up. Results go to `screen`, messages to `aside`."""

    def __init__(self, stage: Stage, options: DemoOptions, screen: Console, aside: Console) -> None:
        self._stage = stage
        self._options = options
        self._screen = screen
        self._aside = aside
        self._run = secrets.token_hex(3)
        self._cases = draw_cases(options.requests, options.seed, self._run)
        self._board = Board()
        self._closing = ExitStack()
        enter = self._closing.enter_context
        self._admin = enter(Client(stage.url, api_key=stage.admin_key))
        self._control = enter(SandboxControl(stage.sandbox_url))
        clients = {
            system: enter(Client(stage.url, api_key=key)) for system, key in stage.keys.items()
        }
        self._systems = [
            EnterpriseSystem(
                clients[system],
                [case for case in self._cases if case.system == system],
                self._run,
                stage.sandbox_url,
            )
            for system in SYSTEMS
        ]
        self._people = People(clients, self._control)
        self._chaos = Chaos(self._control, options.seed)
        self._watch = Watch(self._admin, self._cases, self._run)
        self._inboxes = InboxReader(self._control)

    def play(self) -> Account:
        """Play it to its end, print the report, and return the books.

        What is not done by the deadline is missing in the books.

        Raises:
            OrchxError, httpx.HTTPError: the server or the sandbox does not answer any more.
        """
        with self._closing:
            self._chaos.begin()
            late = self._act()
            self._chaos.observe(self._board)
            # What is doubled may be so only now: by a call that was given up, or sent late.
            time.sleep(max(SETTLE_S, self._chaos.aftermath_s()))
            requests = self._board.acknowledged()
            ids = [workflow_id for one in requests for workflow_id in one.workflow_ids]
            account = audit(
                requests,
                read_logs(self._admin, self._run, ids),
                read_effects(self._control),
                read_inboxes(self._control),
            )
        self._report(account)
        for line in late:
            self._aside.print(f"[bold red]not done in time[/]: {line}", soft_wrap=True)
        return account

    def _act(self) -> list[str]:
        """Let everyone do their part; return what was still missing at the deadline."""
        stop = threading.Event()
        view = self._view()
        deadline_s = time.monotonic() + DEADLINE_S + DEADLINE_S_PER_REQUEST * len(self._cases)
        with ThreadPoolExecutor(len(self._systems) + 2) as threads:
            try:
                view.begin(f"{len(self._cases)} requests, seed {self._options.seed}")
                runs = [one.run for one in self._systems]
                runs += [self._people.run, self._chaos.run]
                acts = [threads.submit(run, self._board, stop) for run in runs]
                submitting = acts[: len(self._systems)]
                while True:
                    self._watch.look(self._board)
                    view.show(self._watch, self._board)
                    _raise_first(acts)
                    missing = self._missing(submitting)
                    if not missing or time.monotonic() > deadline_s:
                        return missing
                    time.sleep(LOOK_EVERY_S)
            finally:
                stop.set()
                view.end()

    def _missing(self, submitting: Sequence[Future[None]]) -> list[str]:
        requests = self._board.acknowledged()
        if not all(act.done() for act in submitting):
            return [f"{len(self._cases) - len(requests)} requests are not submitted yet"]
        ids = [one.workflow_ids[0] for one in requests]
        unfinished = self._watch.unfinished(ids)
        if unfinished:
            return _some("workflows are not over", unfinished)
        unreported = self._inboxes.without_outcome(ids)
        return _some("outcomes have not been reported", unreported) if unreported else []

    def _report(self, account: Account) -> None:
        survived = Survived(
            injected=self._board.injected(),
            resubmitted=self._board.resubmitted(),
            late=self._people.late,
        )
        if self._options.json:
            print_json_line(report_document(account, survived))
        else:
            print_report(self._screen, account, survived)

    def _view(self) -> View:
        if self._screen.is_terminal and not self._options.json:
            return LiveView(self._screen)
        return PlainView(self._screen, as_json=self._options.json)


def _raise_first(acts: Sequence[Future[None]]) -> None:
    """Raise what ended one of the threads, if any."""
    for act in acts:
        if act.done():
            act.result()


def _some(what: str, ids: Sequence[str]) -> list[str]:
    more = f" and {len(ids) - MISSING_SHOWN} more" if len(ids) > MISSING_SHOWN else ""
    return [f"{len(ids)} {what}: {', '.join(ids[:MISSING_SHOWN])}{more}"]
