"""Which workflows have a callback, and which of their records are to be reported.

Kept in memory, bounded, and found again in the log when unknown: after a restart, and
for what the bound has pushed out. Nothing is known of a workflow without a callback but
that it has none, so that its records cost a look-up and no more.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

from orchx.domain import events as e
from orchx.domain.cloud_events import CloudEvents
from orchx.domain.lineage import AcceptedRecords
from orchx.ports.event_log import EventLog

REMEMBERED_LIMIT = 50_000
"""Workflows remembered; one that was pushed out costs a read of its history."""

FIRST_PAGE = 16
PAGE = 1_000
"""Records read at a time; the first page nearly always shows whether there is a callback."""

_PROGRESS: frozenset[type[e.Event]] = frozenset(
    {
        e.WorkflowStarted,
        e.TaskStarted,
        e.TaskCompleted,
        e.TaskFaulted,
        e.TaskRetried,
        e.CorrelationStarted,
    }
)


class Callee:
    """A workflow that may have a callback, as of its last record."""

    __slots__ = ("_events", "asleep", "callback", "lineage", "over", "started", "tenant")

    def __init__(self, workflow_id: str) -> None:
        self._events = CloudEvents(workflow_id)
        self.lineage = AcceptedRecords()
        self.callback: e.Callback | None = None
        self.tenant = ""
        self.started = False
        self.asleep = False
        self.over = False

    @property
    def silent(self) -> bool:
        """Whether nothing will ever be reported of it any more."""
        return self.over or (self.started and self.callback is None)

    @property
    def url(self) -> str:
        """Where its callback is; empty without one."""
        return self.callback.url if self.callback is not None else ""

    def reports(self, record: e.Record) -> bool:
        """Take the next record in and return whether the callback gets it."""
        if not self.lineage.accepts(record):
            return False
        event = record.event
        kind = type(event)
        if isinstance(event, e.WorkflowStarted):
            self.started = True
            self.callback = event.request.callback
            self.tenant = event.request.tenant
        resumed = kind is e.WorkflowActivated and self.asleep
        self.asleep = kind is e.WorkflowPassivated
        self.over = isinstance(event, e.TERMINAL_EVENTS)
        if self.callback is None:
            return False
        wants_all = self.callback.events == "all"
        if wants_all or kind is e.WorkflowStarted:
            self._events.learn((record,))
        return self.over or (wants_all and (resumed or kind in _PROGRESS))

    def cloud_event(self, record: e.Record) -> dict[str, Any]:
        """Return the record as the callback gets it; only for one that `reports` was true of.

        The same after a restart: what it needs to know of earlier records was learnt from them.
        """
        return self._events.render(record)


class CallbackWorkflows:
    """Finds the `Callee` that a record of the log, read in order, belongs to."""

    def __init__(self, log: EventLog, *, remembered_limit: int = REMEMBERED_LIMIT) -> None:
        self._log = log
        self._limit = remembered_limit
        self._known: OrderedDict[str, Callee | None] = OrderedDict()  # None: silent

    async def callee(self, record: e.Record) -> Callee | None:
        """Return the workflow as it stood before this record; None: nothing is reported of it."""
        workflow_id = record.workflow_id
        if workflow_id in self._known:
            return self._known[workflow_id]
        event = record.event
        if isinstance(event, e.WorkflowStarted) and event.request.callback is None:
            self._remember(workflow_id, None)  # true whoever's record this is: one request
            return None
        if not _matters(record):
            return None
        callee = await self._find(record)
        self._remember(workflow_id, callee)
        return callee

    def settle(self, record: e.Record, callee: Callee | None) -> None:
        """Drop what is not needed after this record."""
        if callee is None:
            if isinstance(record.event, e.TERMINAL_EVENTS):
                self._known.pop(record.workflow_id, None)
        elif callee.silent:
            self._remember(record.workflow_id, None)

    def forget(self) -> None:
        """Forget everything; it is in the log."""
        self._known.clear()

    def _remember(self, workflow_id: str, callee: Callee | None) -> None:
        self._known[workflow_id] = callee
        self._known.move_to_end(workflow_id)
        while len(self._known) > self._limit:
            self._known.popitem(last=False)

    async def _find(self, record: e.Record) -> Callee | None:
        """Fold the workflow's history up to (without) this record."""
        callee = Callee(record.workflow_id)
        after_offset, limit = 0, FIRST_PAGE
        while page := await self._log.read(
            record.workflow_id, after_offset=after_offset, limit=limit
        ):
            for earlier in page:
                if earlier.offset >= record.offset:
                    return callee
                callee.reports(earlier)
                if callee.silent:
                    return None
            after_offset, limit = page[-1].offset, PAGE
        return callee


def _matters(record: e.Record) -> bool:
    """Whether an unknown workflow has to be looked up for the sake of this record.

    Not for a first activation: of nearly all workflows the next record says that there is no
    callback. Not for what is never reported: the look-up comes with the first that may be.
    """
    kind = type(record.event)
    if kind is e.WorkflowActivated:
        return record.epoch > 1
    return kind in _PROGRESS or isinstance(record.event, e.TERMINAL_EVENTS)
