"""Collects the demo's evidence: the log, the ledgers and the inboxes, each from its keeper."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

from orchx.cli.demo_accounting import ENDINGS, Effect, Logged, Received, is_outcome
from orchx.cli.demo_cases import SYSTEMS
from orchx.cli.demo_sandbox import SandboxControl
from orchx.cli.progress import kind_of
from orchx.client import Client, Event
from orchx.errors import NotFound

READERS: Final = 4


def read_logs(client: Client, run: str, ids: Iterable[str]) -> list[Logged]:
    """Read the histories of these workflows, of all others of the run, and of their children.

    A workflow that does not exist is left out: its absence is the evidence.
    """
    keys = dict.fromkeys(ids, "")
    for workflow in client.list(label={"demo": run}):
        keys[workflow.id] = workflow.labels.get("request", "") if not workflow.parent_id else ""
    with ThreadPoolExecutor(READERS) as readers:
        logs = _read(readers, client, keys)
        children = {child: "" for log in logs for child in log.children}
        return logs + _read(readers, client, {i: "" for i in children if i not in keys})


def read_effects(control: SandboxControl) -> list[Effect]:
    """Read the ledgers of all services."""
    return [
        Effect(workflow=entry["workflow"], operation=entry["operation"], subject=entry["subject"])
        for entry in control.effects()
    ]


def read_inboxes(control: SandboxControl) -> list[Received]:
    """Read what all systems received, each system's in the order of arrival."""
    return [_received(one) for system in SYSTEMS for one in control.deliveries(system)]


class InboxReader:
    """Follows what arrives, to tell who still waits for an outcome."""

    def __init__(self, control: SandboxControl) -> None:
        self._control = control
        self._since = dict.fromkeys(SYSTEMS, 0)
        self._reported: set[str] = set()

    def without_outcome(self, ids: Iterable[str]) -> list[str]:
        """Return those of these workflows whose outcome has not arrived yet."""
        for system in SYSTEMS:
            for delivery in self._control.deliveries(system, self._since[system]):
                self._since[system] = delivery["seq"]
                received = _received(delivery)
                if is_outcome(received):
                    self._reported.add(received.workflow)
        return [workflow_id for workflow_id in ids if workflow_id not in self._reported]


def _received(delivery: Mapping[str, Any]) -> Received:
    event = delivery["body"]
    return Received(
        id=delivery["webhook_id"],
        workflow=event["workflowid"],
        type=event["type"],
        offset=int(event["logoffset"]),
        verified=delivery["verified"] is True,
    )


def _read(readers: ThreadPoolExecutor, client: Client, keys: Mapping[str, str]) -> list[Logged]:
    def read(item: tuple[str, str]) -> Logged | None:
        workflow_id, key = item
        try:
            return logged(workflow_id, key, client.history(workflow_id))
        except NotFound:
            return None

    return [log for log in readers.map(read, keys.items()) if log is not None]


def avoided(event: Event) -> list[str]:
    """Return the services that a decision turned away from, as they had failed its task."""
    data: Mapping[str, Any] = event.data if isinstance(event.data, dict) else {}
    if kind_of(event) != "decision.made":
        return []
    failures = (data.get("features") or {}).get("failures") or {}
    return [service for service in failures if service != data.get("chosen")]


def logged(workflow_id: str, key: str, history: Iterable[Event]) -> Logged:
    """Return what a history says of its workflow."""
    endings: list[str] = []
    children: list[str] = []
    retries, switches, ended_ms, error = 0, 0, 0, ""
    for event in history:
        data: Mapping[str, Any] = event.data if isinstance(event.data, dict) else {}
        scope, _, what = kind_of(event).partition(".")
        if scope == "workflow" and what in ENDINGS:
            endings.append(what)
            error = str((data.get("error") or {}).get("type", "")).rpartition("/")[2]
            ended_ms = round(event.time.timestamp() * 1_000) if event.time is not None else 0
        elif scope == "task" and what == "retried":
            retries += 1
        elif avoided(event):
            switches += 1
        elif scope == "task" and what == "started" and data.get("child"):
            children.append(data["child"]["workflow_id"])
    return Logged(
        id=workflow_id,
        key=key,
        endings=tuple(endings),
        error=error,
        ended_ms=ended_ms,
        retries=retries,
        switches=switches,
        children=tuple(children),
    )
