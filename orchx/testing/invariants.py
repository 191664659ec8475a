"""What must hold whatever happens (DESIGN 11), checked while the simulation runs.

The checker judges and folds the log by itself: it shares `evolve` with the engine, because
that table defines what events mean, and nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from orchx.domain import events as e
from orchx.domain import faults
from orchx.domain import messages as m
from orchx.domain.document import Definition, TryTask
from orchx.domain.evolve import apply
from orchx.domain.keys import cancel_child_command_id, child_workflow_id, idempotency_key
from orchx.domain.state import Frame, WorkflowState
from orchx.engine.summary import LiveSummary
from orchx.ports.state_store import WorkflowSummary
from orchx.ports.supervision import OwnerReport
from orchx.testing.simulated_services import SECRET_MARKER, answer_of

INVARIANTS: Mapping[int, str] = {
    0: "nothing of orchx crashes",
    1: "an acknowledged request is never lost, and starts one workflow",
    2: "every workflow ends or visibly waits",
    3: "fold(log) = the owner's state = the projection",
    4: "a fenced owner's events change nothing",
    5: "one accepted result and one effect per task and iteration",
    6: "retries keep their limits, timers fire once and not early, deadlines fire",
    8: "no secret in the log",
    9: "a child that nobody awaits any more is cancelled",
}

MAX_SKEW_MS = 400
"""How far apart two simulated clocks may be that nobody sets."""

LATE_LIMIT_MS = 40_000
"""How late a timer may be once nothing fails any more."""

SHOWN_RECORDS = 12
_STATE_FIELDS = tuple(WorkflowState.__slots__)


class InvariantViolated(Exception):
    """One of the invariants does not hold."""

    def __init__(self, number: int, workflow_id: str, detail: str, records: str = "") -> None:
        where = f" [{workflow_id}]" if workflow_id else ""
        super().__init__(f"invariant {number} ({INVARIANTS[number]}){where}: {detail}{records}")
        self.number = number
        self.workflow_id = workflow_id


class Track:
    """One workflow, as the log tells it: who owns it, what counts, what that adds up to."""

    __slots__ = ("accepted", "begun", "epoch", "owner", "records", "seq", "state", "workflow_id")

    def __init__(self, workflow_id: str) -> None:
        self.workflow_id = workflow_id
        self.epoch = 0
        self.owner = ""
        self.seq = -1
        self.state = WorkflowState(workflow_id)
        self.records: list[tuple[e.Record, bool]] = []
        self.accepted: list[e.Record] = []
        self.begun: dict[int, set[tuple[str, str]]] = {}  # frame -> (reference, iteration)

    def accepts(self, record: e.Record) -> bool:
        """Judge the next record, by the rule of DESIGN 5 in its plainest form."""
        if isinstance(record.event, e.WorkflowActivated):
            if record.epoch <= self.epoch or record.seq != 0:
                return False
            self.epoch, self.owner, self.seq = record.epoch, record.owner, 0
            return True
        if (record.epoch, record.owner, record.seq) != (self.epoch, self.owner, self.seq + 1):
            return False
        self.seq += 1
        return True


class InvariantChecker:
    """Watches log, pools and services; `fail` is called with the first violation and later ones.

    Args:
        now_ms: the true time.
        plan_of: the definition behind a digest.
        effect_count: how often a service did what a key stands for.
        command_of: the queued command with an id.
        fail: takes a violation.
    """

    def __init__(
        self,
        *,
        now_ms: Callable[[], int],
        plan_of: Callable[[str], Definition | None],
        effect_count: Callable[[str], int],
        command_of: Callable[[str], m.AnyCommand | None],
        fail: Callable[[InvariantViolated], None],
    ) -> None:
        self.tracks: dict[str, Track] = {}
        self.acknowledged: dict[str, m.AnyCommand] = {}
        self.last_accepted_ms = 0
        self._now_ms = now_ms
        self.ahead_ms = MAX_SKEW_MS
        """How far ahead of the true time a record may be dated."""
        self._plan_of = plan_of
        self._effect_count = effect_count
        self._fail = fail
        self._command_of = command_of
        self._children: set[str] = set()
        self._abandoned: dict[str, int] = {}  # child -> when its parent gave it up
        self._emitted: set[tuple[Any, Any]] = set()
        self._site_of: dict[str, tuple[str, str, str]] = {}
        self._key_of: dict[tuple[str, str, str], str] = {}

    # -- what the simulation tells -------------------------------------------------------

    def appended(self, record: e.Record) -> None:
        """Check a record at the moment at which it becomes durable."""
        track = self.tracks.get(record.workflow_id)
        if track is None:
            track = self.tracks[record.workflow_id] = Track(record.workflow_id)
        event = record.event
        if isinstance(event, e.TaskStarted) and event.call is not None:
            site = (event.reference, event.iteration)
            track.begun.setdefault(event.frame, set()).add(site)
        gap = (record.epoch, record.owner) == (track.epoch, track.owner) and (
            record.seq > track.seq + 1
        )
        accepted = track.accepts(record)
        track.records.append((record, accepted))
        if gap:
            self._violated(3, track, f"a record is missing before seq {record.seq}")
        if not accepted:
            return
        track.accepted.append(record)
        self.last_accepted_ms = self._now_ms()
        self._check_accepted(track, record)
        try:
            apply(track.state, event, record.at_ms)
        except (KeyError, IndexError) as error:
            self._violated(5, track, f"{e.type_of(event)} is about what is over: {error!r}")

    def sent(self, request: m.TaskRequest) -> None:
        """Check a call that an owner sends to a pool."""
        track = self.tracks.get(request.workflow_id)
        sites = track.begun.get(request.frame, set()) if track is not None else set()
        iterations = [iteration for reference, iteration in sites if reference == request.reference]
        if track is None or not iterations:
            self._violated(
                5, track, f"call {request.execution} was sent before its start was durable"
            )
        elif len(iterations) == 1:
            site = (request.workflow_id, request.reference, iterations[0])
            known_key = self._key_of.setdefault(site, request.key)
            known_site = self._site_of.setdefault(request.key, site)
            if known_key != request.key or known_site != site:
                self._violated(5, track, f"{site} has two keys, or shares one: {request.key}")

    def reported(self, report: OwnerReport) -> None:
        """Check that an owner's news is true by the log when it leaves, whoever sends it."""
        for ending in report.ended:
            track = self.tracks.get(ending.workflow_id)
            if track is None or track.state.status != ending.status:
                self._violated(4, track, f"{report.incarnation} reports an end not accepted")
        for command_id in report.applied:
            command = self._command_of(command_id)
            if command is None:
                self._violated(1, None, f"{command_id} is applied, and the queue has it not")
                continue
            track = self.tracks.get(command.workflow_id)
            known = track is not None and command_id in track.state.commands
            if track is None or not (known or track.state.terminal):
                self._violated(4, track, f"{report.incarnation} says that {command_id} is applied")
        for caused in report.commands:
            if isinstance(caused, m.StartWorkflow) and caused.id not in self._children:
                self._violated(4, None, f"{report.incarnation} starts {caused.id}, not accepted")
            elif isinstance(caused, m.CancelWorkflow) and caused.workflow_id not in self._abandoned:
                self._violated(4, None, f"{report.incarnation} cancels what is awaited: {caused}")
            elif isinstance(caused, m.FinishChild):
                child = self.tracks.get(child_workflow_id(caused.workflow_id, caused.frame))
                if child is None or not child.state.terminal:
                    self._violated(4, child, f"{report.incarnation} reports an end not accepted")
        for event in report.published:
            if (event.get("source"), event.get("id")) not in self._emitted:
                self._violated(4, None, f"{report.incarnation} publishes what is not accepted")

    # -- each accepted record ------------------------------------------------------------

    def _check_accepted(self, track: Track, record: e.Record) -> None:
        event, state = record.event, track.state
        if record.at_ms > self._now_ms() + self.ahead_ms:
            self._violated(6, track, f"a record from the future: {record.at_ms}")
        if state.terminal and not isinstance(event, e.WorkflowActivated):
            self._violated(5, track, f"{e.type_of(event)} after the end")
            return
        self._note_abandoned(state, event)
        if isinstance(event, e.TaskStarted) and event.child is not None:
            self._children.add(event.child.workflow_id)
        elif isinstance(event, e.EventEmitted):
            self._emitted.add((event.event.get("source"), event.event.get("id")))
        elif isinstance(event, e.WorkflowStarted):
            if state.status != "new":
                self._violated(1, track, "started twice")
        elif isinstance(event, e.WorkflowFaulted) and event.error.title == "Internal error":
            self._violated(0, track, f"a decision failed: {event.error.detail}")
        elif isinstance(event, e.TaskCompleted | e.TaskFaulted) and event.frame:
            self._check_ended(track, record, event)
        elif isinstance(event, e.TaskRetried | e.TaskResumed):
            self._check_retry(track, record, event)
        elif isinstance(event, e.EventReceived | e.CancelRequested | e.CommandRefused):
            if event.command_id in state.commands:
                self._violated(5, track, f"command {event.command_id} was applied twice")
        elif isinstance(event, e.ChildFinished):
            self._check_child(track, event)

    def _note_abandoned(self, state: WorkflowState, event: e.AnyEvent) -> None:
        """Remember the children whose end a parent does not wait for any more."""
        left: Iterable[Frame] = ()
        if isinstance(event, e.TERMINAL_EVENTS):
            left = state.frames.values()
        elif isinstance(event, e.TaskCancelled | e.TaskFaulted) and event.frame in state.frames:
            left = (state.frames[event.frame],)
        for frame in left:
            if frame.child is not None and frame.child.awaited and frame.outcome is None:
                self._abandoned[frame.child.workflow_id] = self._now_ms()

    def _check_ended(
        self, track: Track, record: e.Record, event: e.TaskCompleted | e.TaskFaulted
    ) -> None:
        frame = track.state.frames.get(event.frame)
        if frame is None:
            self._violated(5, track, f"a second result of frame {event.frame}")
            return
        if isinstance(event, e.TaskFaulted):
            due_ms = frame.timeout_at_ms
            by_deadline = (
                frame.outcome is None  # not a child's own deadline
                and event.error.type == faults.TIMEOUT
                and event.error.instance == frame.reference
                and (event.error.detail or "").startswith("the task was not done")
            )
            if by_deadline and (due_ms is None or record.at_ms < due_ms):
                self._violated(6, track, f"frame {frame.id} timed out before {due_ms}")
        elif frame.kind == "wait":
            if frame.due_at_ms is None or record.at_ms < frame.due_at_ms:
                self._violated(6, track, f"frame {frame.id} waited too short a time")
        elif frame.kind == "call":
            self._check_result(track, frame, event)

    def _check_result(self, track: Track, frame: Frame, event: e.TaskCompleted) -> None:
        key = idempotency_key(track.workflow_id, frame.reference, frame.iteration)
        sent_as = self._key_of.get((track.workflow_id, frame.reference, frame.iteration), key)
        if self._effect_count(sent_as) != 1:
            self._violated(5, track, f"frame {frame.id} has a result without its effect")
        plan = self._plan(track)
        task = plan.tasks[frame.reference] if plan is not None else None
        if task is not None and task.data.output_as is None and event.output != answer_of(sent_as):
            self._violated(5, track, f"frame {frame.id} has the result of another call")

    def _check_retry(
        self, track: Track, record: e.Record, event: e.TaskRetried | e.TaskResumed
    ) -> None:
        frame = track.state.frames.get(event.frame)
        plan = self._plan(track)
        if frame is None or plan is None:
            return
        if isinstance(event, e.TaskResumed):
            if frame.due_at_ms is None or record.at_ms < frame.due_at_ms:
                self._violated(6, track, f"frame {frame.id} ran again before {frame.due_at_ms}")
            return
        task = plan.tasks[frame.reference]
        policy = task.catch.retry if isinstance(task, TryTask) else None
        limit = None if policy is None else policy.limit_attempts
        if policy is None or event.attempt != frame.attempt + 1:
            self._violated(6, track, f"frame {frame.id}: attempt {event.attempt} out of order")
        elif limit is not None and event.attempt > limit + 1:
            self._violated(6, track, f"frame {frame.id}: attempt {event.attempt} of {limit + 1}")
        elif policy.limit_duration is not None and policy.limit_duration.constant_ms is not None:
            last_ms = frame.started_at_ms + policy.limit_duration.constant_ms
            if event.due_at_ms > last_ms:
                self._violated(6, track, f"frame {frame.id}: a retry after {last_ms}")
        if event.due_at_ms < record.at_ms + (event.error.retry_after_ms or 0):
            self._violated(6, track, f"frame {frame.id}: a retry before Retry-After")

    def _check_child(self, track: Track, event: e.ChildFinished) -> None:
        if event.command_id in track.state.commands:
            self._violated(5, track, f"command {event.command_id} was applied twice")
        child = self.tracks.get(child_workflow_id(track.workflow_id, event.frame))
        if child is None:
            if event.error is None or event.error.title != "No such definition":
                self._violated(4, track, f"frame {event.frame}: the end of a child never started")
        elif not child.state.terminal:
            self._violated(4, track, f"frame {event.frame}: told of an end that is not accepted")
        elif child.state.status == "completed" and event.output != child.state.output:
            self._violated(4, track, f"frame {event.frame}: told of an output not accepted")
        elif (child.state.status == "completed") != (event.error is None):
            self._violated(4, track, f"frame {event.frame}: told of another end than accepted")

    # -- now and then, and at the end ----------------------------------------------------

    def check_owner(self, incarnation: str, states: Mapping[str, WorkflowState]) -> None:
        """Compare what an owner holds in memory with what the log says."""
        for workflow_id, state in states.items():
            track = self.tracks.get(workflow_id)
            if track is None or track.owner != incarnation:
                continue  # fenced, and not aware of it yet
            if state.events > track.state.events:
                self._violated(3, track, "the owner's state is ahead of the log")
            elif state.events == track.state.events:
                self._compare(track, state)

    def _compare(self, track: Track, state: WorkflowState) -> None:
        for name in _STATE_FIELDS:
            if getattr(state, name) != getattr(track.state, name):
                self._violated(3, track, f"the owner's {name} differs from the log's")
                return

    def check_projection(self, rows: Mapping[str, WorkflowSummary]) -> None:
        """Compare the projection, caught up, with the log."""
        for workflow_id, track in self.tracks.items():
            expected = LiveSummary(workflow_id)
            for record in track.accepted:
                expected.apply(record)
            lineage = expected.lineage
            lineage.epoch, lineage.owner, lineage.seq = track.epoch, track.owner, track.seq
            row = rows.get(workflow_id)
            if row != expected.freeze():
                self._violated(3, track, f"the projection has {row}")
            elif track.state.terminal and (
                row.status != track.state.status or row.output != track.state.output
            ):
                self._violated(3, track, f"the projection says {row.status}")

    def check_acknowledged(self) -> None:
        """Check that the log has all that callers were told was accepted."""
        for command in self.acknowledged.values():
            if not command.workflow_id:
                continue
            track = self.tracks.get(command.workflow_id)
            if track is None or track.state.status == "new":
                self._violated(1, track, f"command {command.id} was acknowledged and is lost")
            elif not track.state.terminal and command.id not in track.state.commands:
                self._violated(1, track, f"command {command.id} was acknowledged and not applied")

    def check_told(self, summary: WorkflowSummary) -> None:
        """Check what a caller was told of a workflow's end."""
        track = self.tracks.get(summary.workflow_id)
        state = track.state if track is not None else None
        if state is None or (state.status, state.output) != (summary.status, summary.output):
            self._violated(4, track, f"a caller was told {summary.status}, {summary.output}")

    def check_deadlines(self, since_ms: int) -> None:
        """Check that no timer is overdue, once nothing has failed since a time."""
        now_ms = self._now_ms()
        for track in self.tracks.values():
            due_ms = None if track.state.terminal else track.state.next_due_ms()
            if due_ms is not None and now_ms - max(due_ms, since_ms) > LATE_LIMIT_MS:
                self._violated(6, track, f"a timer due at {due_ms} has not fired")

    def check_children(self, since_ms: int) -> None:
        """Check that no abandoned child runs on, once nothing has failed since a time."""
        now_ms = self._now_ms()
        for child_id, abandoned_ms in self._abandoned.items():
            track = self.tracks.get(child_id)
            if track is None or track.state.status == "new" or track.state.terminal:
                continue
            if now_ms - max(abandoned_ms, since_ms) > LATE_LIMIT_MS:
                self._violated(9, track, f"given up at {abandoned_ms}, and not ended")

    def check_cancelled(self, waiting: Iterable[m.AnyCommand]) -> None:
        """Check, at rest, that every abandoned child was to be cancelled, and none for ever."""
        for child_id, abandoned_ms in self._abandoned.items():
            track = self.tracks.get(child_id)
            if track is not None and self._command_of(cancel_child_command_id(child_id)) is None:
                self._violated(9, track, f"given up at {abandoned_ms}, and not cancelled")
        for command in waiting:
            if command.workflow_id and command.workflow_id not in self.tracks:
                self._violated(9, None, f"{command.id} waits for what never starts")

    def check_secrets(self) -> None:
        """Check that the planted secret is in no record."""
        marker = SECRET_MARKER.encode()
        for track in self.tracks.values():
            for record, _ in track.records:
                if marker in e.encode_event(record.event):
                    self._violated(8, track, "the planted secret is in the log")

    def stuck(self, detail: Callable[[Track], str]) -> None:
        """Report the workflows that neither ended nor visibly wait."""
        for track in self.unfinished():
            self._violated(2, track, detail(track))

    def unfinished(self) -> list[Track]:
        """Return the workflows that have not ended."""
        return [track for track in self.tracks.values() if not track.state.terminal]

    def _plan(self, track: Track) -> Definition | None:
        definition = track.state.definition
        return None if definition is None else self._plan_of(definition.digest)

    def _violated(self, number: int, track: Track | None, detail: str) -> None:
        workflow_id = track.workflow_id if track is not None else ""
        shown = "" if track is None else "\n" + describe(track.records[-SHOWN_RECORDS:])
        self._fail(InvariantViolated(number, workflow_id, detail, shown))


def describe(records: Iterable[tuple[e.Record, bool]]) -> str:
    """Return records for people, one a line; `-` marks those that do not count."""
    return "\n".join(
        f"  {'+' if accepted else '-'} {r.offset:5} {r.at_ms % 10_000_000:8} {r.owner:14}"
        f" e{r.epoch} s{r.seq:<3} {e.encode_event(r.event).decode()[:300]}"
        for r, accepted in records
    )
