"""The enterprise: systems that submit requests, and the people who decide on some."""

from __future__ import annotations

import heapq
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any, Final

from orchx.cli.demo_accounting import Acknowledged
from orchx.cli.demo_board import Board
from orchx.cli.demo_cases import Case
from orchx.cli.demo_sandbox import SandboxControl
from orchx.cli.demo_variants import Decision
from orchx.client import Client
from orchx.errors import CallerError

POLL_S: Final = 0.2
RESUBMIT_AFTER_S: Final = 0.3
# Whoever does not trust in one outcome alone can follow all progress.
_FOLLOWED: Final = ("employee-onboarding", "laptop-incident")


def request_of(case: Case, run: str, sandbox_url: str) -> dict[str, Any]:
    """Return a case as the document that its system submits."""
    events = "all" if case.type in _FOLLOWED else "outcome"
    return {
        "type": case.type,
        "tenant": case.system,
        "input": dict(case.input),
        "callback": {"url": f"{sandbox_url}/inbox/{case.system}", "events": events},
        "correlationId": case.key,
        "labels": {"demo": run, "request": case.key},
    }


class EnterpriseSystem:
    """One system: submits its cases when their time comes, some of them twice."""

    def __init__(self, client: Client, cases: Sequence[Case], run: str, sandbox_url: str) -> None:
        self._client = client
        self._run = run
        self._sandbox_url = sandbox_url
        # Due time, number of sendings so far, case.
        self._due = [(case.at_s, 0, case.number, case) for case in cases]
        heapq.heapify(self._due)

    def run(self, board: Board, stop: threading.Event) -> None:
        """Submit everything, unless told to stop.

        Raises:
            OrchxError: a request is not taken, however often it is sent.
        """
        begun_s = time.monotonic()
        while self._due:
            due_s, sent, _, case = heapq.heappop(self._due)
            if stop.wait(max(0.0, begun_s + due_s - time.monotonic())):
                return
            at_ms = time.time_ns() // 1_000_000
            request = request_of(case, self._run, self._sandbox_url)
            answer = self._client.submit(request, key=case.key)
            if sent == 0:
                first = Acknowledged(case=case, workflow_ids=(answer.id,), submitted_ms=at_ms)
                board.acknowledge(first)
                if case.resubmitted:
                    again = (due_s + RESUBMIT_AFTER_S, 1, case.number, case)
                    heapq.heappush(self._due, again)
                continue
            (earlier,) = [one for one in board.acknowledged() if one.case.number == case.number]
            ids = (*earlier.workflow_ids, answer.id)
            board.acknowledge(
                Acknowledged(case=case, workflow_ids=ids, submitted_ms=earlier.submitted_ms)
            )
            if answer.replayed and len(set(ids)) == 1:
                board.tell(f"{case.system} sent {case.type} {case.number} twice: one workflow")


class People:
    """Everyone who has to decide: they read their notes, take their time, and answer."""

    def __init__(self, clients: Mapping[str, Client], control: SandboxControl) -> None:
        self._clients = clients
        self._control = control
        self._seen: set[int] = set()
        self._by_note: dict[str, Acknowledged] = {}
        self._sent_notes: set[str] = set()
        self._since = 0
        self._due: list[tuple[float, int, Acknowledged]] = []
        self.late = 0

    def run(self, board: Board, stop: threading.Event) -> None:
        """Decide, until told to stop."""
        while not stop.wait(POLL_S):
            now_s = time.monotonic()
            self._read_requests(board, now_s)
            self._read_notes(now_s)
            while self._due and self._due[0][0] <= now_s:
                self._answer(heapq.heappop(self._due)[2], board)

    def _read_requests(self, board: Board, now_s: float) -> None:
        for request in board.acknowledged():
            decision = request.case.decision
            if decision is None or request.case.number in self._seen:
                continue
            self._seen.add(request.case.number)
            if decision.when == "soon":
                self._plan(request, decision, now_s)
            else:
                self._by_note[decision.note] = request
                self._take(decision.note, now_s)

    def _read_notes(self, now_s: float) -> None:
        for effect in self._control.effects(self._since):
            self._since = effect["seq"]
            if effect["operation"] == "hr.notify-manager":
                self._sent_notes.add(effect["subject"])
                self._take(effect["subject"], now_s)

    def _take(self, note: str, now_s: float) -> None:
        """Plan an answer once both are there, the note and who waits for it."""
        if note in self._sent_notes and note in self._by_note:
            request = self._by_note.pop(note)
            if request.case.decision is not None:
                self._plan(request, request.case.decision, now_s)

    def _plan(self, request: Acknowledged, decision: Decision, now_s: float) -> None:
        heapq.heappush(self._due, (now_s + decision.delay_s, request.case.number, request))

    def _answer(self, request: Acknowledged, board: Board) -> None:
        case, decision = request.case, request.case.decision
        if decision is None:
            return
        is_late = decision.when == "escalated"
        self.late += is_late
        try:
            self._clients[case.system].signal(
                request.workflow_ids[0],
                decision.type,
                dict(decision.data),
                source=f"/{case.system}/people",
                event_id=f"{case.key}-decision",
            )
        except CallerError:
            if not is_late:  # over already: only a late answer may come to that
                raise
        if is_late:
            board.tell(f"{case.type} {case.number}: the answer came too late, policy had decided")
