"""The demo's end: what became of the requests, what was survived, where to look next."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from orchx.cli.demo_accounting import Account, TypeCounts, percentile
from orchx.cli.demo_chaos import in_words
from orchx.cli.demo_stage import Stage
from orchx.cli.screen import span

FINDINGS_SHOWN: Final = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Survived:
    """What the agent went through: faults by kind, requests sent twice, answers too late."""

    injected: Mapping[str, int]
    resubmitted: int
    late: int


def print_report(screen: Console, account: Account, survived: Survived) -> None:
    """Print the summary for people."""
    screen.print()
    screen.print(_table(account))
    if account.errors:
        errors = ", ".join(f"{count} {name}" for name, count in sorted(account.errors.items()))
        screen.print(
            "[bold]Failed as designed[/]: the answer to these requests is no, or none in time, and"
            f" their workflows end with it: {escape(errors)}."
        )
    screen.print(
        f"[bold]Survived[/]: {in_words(survived.injected)}; {survived.resubmitted} requests sent"
        f" twice, {survived.late} answers given too late. The agent turned to another service"
        f" {account.switches} times."
    )
    screen.print(
        "[bold]Checked[/]: each request against the log, the services' ledgers and the webhooks"
        " received."
    )
    for finding in account.findings[:FINDINGS_SHOWN]:
        screen.print(f"[bold red]{finding.kind}[/]: {escape(finding.text)}", soft_wrap=True)
    hidden = len(account.findings) - FINDINGS_SHOWN
    if hidden > 0:
        screen.print(f"[red]and {hidden} more[/]")


def print_next(screen: Console, stage: Stage) -> None:
    """Print where to look while everything keeps running."""
    screen.print("It all keeps running until Ctrl-C. In another terminal:")
    for command in (
        f"export ORCHX_URL={stage.url}",
        f"export ORCHX_API_KEY={stage.admin_key}",
        "orchx list",
        "orchx list --status faulted",
        "orchx show ID",
        "orchx history ID",
    ):
        screen.print(f"  {command}", soft_wrap=True)
    screen.print(f"[dim]The services' ledgers: {stage.sandbox_url}/ledger[/]", soft_wrap=True)


def report_document(account: Account, survived: Survived) -> dict[str, Any]:
    """Return the summary for programs."""
    return {
        "types": {
            kind: {
                "submitted": counts.submitted,
                "completed": counts.completed,
                "failed": counts.failed,
                "retries": counts.retries,
                "p50Ms": percentile(counts.durations_ms, 50),
                "p95Ms": percentile(counts.durations_ms, 95),
            }
            for kind, counts in account.by_type.items()
        },
        "injected": dict(survived.injected),
        "resubmitted": survived.resubmitted,
        "switches": account.switches,
        "lateAnswers": survived.late,
        "errors": dict(account.errors),
        "findings": [
            {"kind": one.kind, "text": one.text, "count": one.count} for one in account.findings
        ],
        "result": account.last_line(),
    }


def _table(account: Account) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold")
    table.add_column("request", no_wrap=True)
    for name in ("submitted", "completed", "failed as designed", "retries", "p50", "p95"):
        table.add_column(name, justify="right")
    for kind, counts in account.by_type.items():
        table.add_row(kind, *_cells(counts))
    table.add_section()
    table.add_row("[bold]all", *_cells(_sum(account)))
    return table


def _sum(account: Account) -> TypeCounts:
    return TypeCounts(
        submitted=account.total("submitted"),
        completed=account.total("completed"),
        failed=account.total("failed"),
        retries=account.total("retries"),
        durations_ms=tuple(ms for one in account.by_type.values() for ms in one.durations_ms),
    )


def _cells(counts: TypeCounts) -> list[str]:
    times = [span(percentile(counts.durations_ms, percent) / 1_000) for percent in (50, 95)]
    numbers = (counts.submitted, counts.completed, counts.failed, counts.retries)
    return [*map(str, numbers), *times]
