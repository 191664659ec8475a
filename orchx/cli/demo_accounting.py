"""The demo's books: three independent sources held against what was asked for. Pure.

The log (the API's history), the ledgers of the services and the inboxes of the systems are
filled by three different parts; a request is done right only if all of them say so.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from orchx.cli.demo_cases import Case
from orchx.cli.demo_variants import COMPLETED

Kind = Literal["lost", "duplicated", "unexpected", "unverified", "disordered"]
ENDINGS: Final = ("completed", "faulted", "cancelled")


@dataclass(frozen=True, slots=True, kw_only=True)
class Acknowledged:
    """A request that the server took: `workflow_ids` has one id per time it was sent."""

    case: Case
    workflow_ids: tuple[str, ...]
    submitted_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Logged:
    """One workflow as its history tells it.

    `switches` counts decisions for another service than the one that failed; `endings` are
    its terminal events; `error` the last part of the error's type; `key` is
    the label that names its request, empty for a child.
    """

    id: str
    key: str
    endings: tuple[str, ...]
    error: str = ""
    ended_ms: int = 0
    retries: int = 0
    switches: int = 0
    children: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Effect:
    """One entry of a service's ledger."""

    workflow: str
    operation: str
    subject: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Received:
    """One webhook that arrived, in the order of arrival; `offset` is the log's."""

    id: str
    workflow: str
    type: str
    offset: int
    verified: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """Something that is not as it must be; `count` how often."""

    kind: Kind
    text: str
    count: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class TypeCounts:
    """How the requests of one type fared; `durations_ms` from submission to the end."""

    submitted: int
    completed: int
    failed: int
    retries: int
    durations_ms: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """The result of the audit.

    `errors`: with which error how many requests ended; `switches` to other services, in all
    workflows.
    """

    by_type: Mapping[str, TypeCounts]
    findings: tuple[Finding, ...]
    errors: Mapping[str, int]
    switches: int

    def count(self, kind: Kind) -> int:
        """Return how many of one kind were found."""
        return sum(finding.count for finding in self.findings if finding.kind == kind)

    def total(self, name: Literal["submitted", "completed", "failed", "retries"]) -> int:
        """Add up one column."""
        return sum(getattr(counts, name) for counts in self.by_type.values())

    def last_line(self) -> str:
        """Return the one line that says it all."""
        times = [ms for counts in self.by_type.values() for ms in counts.durations_ms]
        return (
            f"demo: submitted={self.total('submitted')} completed={self.total('completed')}"
            f" failed={self.total('failed')} lost={self.count('lost')}"
            f" duplicated={self.count('duplicated')} p50_ms={percentile(times, 50)}"
        )


def percentile(values: Iterable[int], percent: int) -> int:
    """Return the value that `percent` of the values do not exceed (nearest rank); 0 of none."""
    ranked = sorted(values)
    return ranked[max(math.ceil(len(ranked) * percent / 100), 1) - 1] if ranked else 0


def audit(
    acknowledged: Sequence[Acknowledged],
    logged: Iterable[Logged],
    effects: Iterable[Effect],
    received: Iterable[Received],
) -> Account:
    """Hold the log, the ledgers and the inboxes against what was asked for."""
    logs = {log.id: log for log in logged}
    by_key: dict[str, set[str]] = defaultdict(set)
    for found in logs.values():
        if found.key:
            by_key[found.key].add(found.id)
    effects_of: dict[str, list[Effect]] = defaultdict(list)
    for effect in effects:
        effects_of[effect.workflow].append(effect)
    inbox: dict[str, list[Received]] = defaultdict(list)
    for webhook in received:
        inbox[webhook.workflow].append(webhook)
    findings: list[Finding] = []
    asked_for: set[str] = set()
    for request in acknowledged:
        workflow_id = request.workflow_ids[0]
        log = logs.get(workflow_id)
        family = [workflow_id, *(log.children if log is not None else ())]
        asked_for.update(family)
        findings += _second_workflows(request, by_key[request.case.key])
        missing = [
            *_missing_ends(family, logs),
            *_missing_outcome(inbox[workflow_id]),
            *_missing_effects(request.case, family, effects_of),
        ]
        if missing:
            text = f"{_name(request.case)} ({workflow_id}): {', '.join(missing)}"
            findings.append(Finding(kind="lost", text=text))
        findings += _doubled(request.case, family, logs, effects_of)
        findings += _webhooks(request.case, log, inbox[workflow_id])
        if log is not None and log.endings and _ending(log) != request.case.ending:
            text = f"{_name(request.case)} ended as {_ending(log)}, not {request.case.ending}"
            findings.append(Finding(kind="unexpected", text=f"{text} ({workflow_id})"))
    for stranger in effects_of.keys() - asked_for:
        count = len(effects_of[stranger])
        text = f"{count} effects of workflow {stranger or '(none)'}, which nobody asked for"
        findings.append(Finding(kind="duplicated", text=text, count=count))
    return Account(
        by_type=_by_type(acknowledged, logs),
        findings=tuple(findings),
        errors=_errors(acknowledged, logs),
        switches=sum(found.switches for found in logs.values()),
    )


def _name(case: Case) -> str:
    return f"{case.type} {case.number} ({case.variant})"


def _ending(log: Logged) -> str:
    return log.error or log.endings[0]


def _second_workflows(request: Acknowledged, found: set[str]) -> list[Finding]:
    ids = found | set(request.workflow_ids)
    if len(ids) <= 1:
        return []
    text = f"{_name(request.case)}: one key, {len(ids)} workflows: {', '.join(sorted(ids))}"
    return [Finding(kind="duplicated", text=text, count=len(ids) - 1)]


def _missing_ends(family: Sequence[str], logs: Mapping[str, Logged]) -> list[str]:
    unfinished = [one for one in family if one not in logs or not logs[one].endings]
    return [f"no terminal event of {one} in the log" for one in unfinished]


def _missing_outcome(webhooks: Sequence[Received]) -> list[str]:
    return [] if any(is_outcome(webhook) for webhook in webhooks) else ["no outcome webhook"]


def _missing_effects(
    case: Case, family: Sequence[str], effects_of: Mapping[str, Sequence[Effect]]
) -> list[str]:
    done = Counter(
        operation for operation, _ in {(e.operation, e.subject) for e in _all(family, effects_of)}
    )
    missing = [
        f"{operation} ({expected - done[operation]} of {expected})"
        for operation, expected in case.effects.items()
        if done[operation] < expected
    ]
    return [f"not in the ledgers: {' '.join(missing)}"] if missing else []


def _doubled(
    case: Case,
    family: Sequence[str],
    logs: Mapping[str, Logged],
    effects_of: Mapping[str, Sequence[Effect]],
) -> list[Finding]:
    times: dict[str, Counter[str]] = defaultdict(Counter)
    for effect in _all(family, effects_of):
        times[effect.operation][effect.subject] += 1
    findings = []
    for operation, subjects in times.items():
        allowed = min(len(subjects), case.effects.get(operation, 0))
        extra = subjects.total() - allowed
        if extra:
            text = f"{_name(case)}: {operation} done {subjects.total()} times, not {allowed}"
            findings.append(Finding(kind="duplicated", text=text, count=extra))
    for one in family:
        if one in logs and len(logs[one].endings) > 1:
            text = f"{_name(case)}: {one} ended {len(logs[one].endings)} times in the log"
            findings.append(Finding(kind="duplicated", text=text))
    return findings


def _all(family: Sequence[str], effects_of: Mapping[str, Sequence[Effect]]) -> list[Effect]:
    return [effect for one in family for effect in effects_of.get(one, ())]


def _webhooks(case: Case, log: Logged | None, webhooks: Sequence[Received]) -> list[Finding]:
    findings = []
    by_id: dict[str, Received] = {}
    for webhook in webhooks:  # sent again after a lost answer is no second message
        by_id.setdefault(webhook.id, webhook)
    first = list(by_id.values())
    outcomes = [webhook for webhook in first if is_outcome(webhook)]
    if len(outcomes) > 1:
        text = f"{_name(case)}: {len(outcomes)} outcomes reported"
        findings.append(Finding(kind="duplicated", text=text, count=len(outcomes) - 1))
    if outcomes and log is not None and log.endings and _short(outcomes[0]) != log.endings[0]:
        text = f"{_name(case)}: {_short(outcomes[0])} reported, {log.endings[0]} in the log"
        findings.append(Finding(kind="unexpected", text=text))
    forged = sum(not webhook.verified for webhook in webhooks)
    if forged:
        text = f"{_name(case)}: {forged} webhooks without a valid signature"
        findings.append(Finding(kind="unverified", text=text, count=forged))
    offsets = [webhook.offset for webhook in first]
    if offsets != sorted(offsets):
        text = f"{_name(case)}: webhooks out of order, log offsets {offsets}"
        findings.append(Finding(kind="disordered", text=text))
    return findings


def is_outcome(webhook: Received) -> bool:
    """Tell whether a webhook reports the end of a workflow."""
    return ".workflow." in webhook.type and _short(webhook) in ENDINGS


def _short(webhook: Received) -> str:
    return webhook.type.removesuffix(".v1").rpartition(".")[2]


def _by_type(
    acknowledged: Sequence[Acknowledged], logs: Mapping[str, Logged]
) -> dict[str, TypeCounts]:
    grouped: dict[str, list[tuple[Acknowledged, Logged | None]]] = defaultdict(list)
    for request in acknowledged:
        grouped[request.case.type].append((request, logs.get(request.workflow_ids[0])))
    counts = {}
    for kind, pairs in sorted(grouped.items()):
        over = [(request, log) for request, log in pairs if log is not None and log.endings]
        completed = sum(log.endings[0] == COMPLETED for _, log in over)
        counts[kind] = TypeCounts(
            submitted=len(pairs),
            completed=completed,
            failed=len(over) - completed,
            retries=sum(_retries(log, logs) for _, log in over),
            durations_ms=tuple(log.ended_ms - request.submitted_ms for request, log in over),
        )
    return counts


def _errors(acknowledged: Sequence[Acknowledged], logs: Mapping[str, Logged]) -> Counter[str]:
    ended = (logs.get(request.workflow_ids[0]) for request in acknowledged)
    return Counter(
        _ending(log)
        for log in ended
        if log is not None and log.endings[:1] not in ((), (COMPLETED,))
    )


def _retries(log: Logged, logs: Mapping[str, Logged]) -> int:
    return log.retries + sum(logs[one].retries for one in log.children if one in logs)
