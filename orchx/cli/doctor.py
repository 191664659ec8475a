"""`orchx doctor`."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import asdict

import typer
from rich.table import Table
from rich.text import Text

from orchx.cli import failures
from orchx.cli.doctor_checks import Subject, examine
from orchx.cli.environment_settings import read_settings
from orchx.cli.failures import UsageError
from orchx.cli.options import DEFAULT_DATA_DIR, ApiKey, DataDir, Json, Url
from orchx.cli.screen import console, print_json
from orchx.client.connection import DEFAULT_URL, URL_VARIABLE, check_url
from orchx.errors import InvalidRequest
from orchx.ports.inspection import Finding

_LOOKS = {"ok": ("✔", "green"), "warn": ("!", "yellow"), "fail": ("✘", "red")}

app = typer.Typer(add_completion=False)


@app.command("doctor")
def doctor(
    data_dir: DataDir = DEFAULT_DATA_DIR,
    url: Url = None,
    api_key: ApiKey = None,
    json_: Json = False,
) -> None:
    """Look for what is wrong, and say what to do.

    With ORCHX_PROFILE=kafka that includes Kafka, MongoDB and Redis, as the settings name them.

    Exit code 1 if a check failed; warnings alone are 0.
    """
    address = (url or os.environ.get(URL_VARIABLE) or DEFAULT_URL).rstrip("/")
    try:
        check_url(address)
    except InvalidRequest as error:
        hint = f"Like {DEFAULT_URL}, given by --url or {URL_VARIABLE}."
        raise UsageError(f"{address}: is no address of a server", hint) from error
    settings = read_settings()
    subject = Subject(url=address, api_key=api_key, data_dir=data_dir, settings=settings)
    findings = list(examine(subject))
    counts = Counter(finding.level for finding in findings)
    failed = counts["fail"] > 0
    if json_:
        print_json({"ok": not failed, "checks": [asdict(finding) for finding in findings]})
    else:
        screen = console()
        screen.print(_table(findings))
        screen.print(f"{counts['ok']} ok, {counts['warn']} warnings, {counts['fail']} failures")
    raise typer.Exit(failures.FAILED if failed else failures.OK)


def _table(findings: list[Finding]) -> Table:
    made = Table.grid(padding=(0, 2))
    made.add_column(no_wrap=True)
    made.add_column(no_wrap=True)
    made.add_column(overflow="fold")
    for finding in findings:
        icon, style = _LOOKS[finding.level]
        detail = Text(finding.detail)
        if finding.advice:
            detail.append(f"\n→ {finding.advice}", style=style)
        made.add_row(Text(f"{icon} {finding.level}", style=style), finding.check, detail)
    return made
