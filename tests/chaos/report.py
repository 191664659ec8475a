"""The table of results: kept as JSON, one entry a row, and written out as docs/chaos.md."""

from __future__ import annotations

import json
import platform
import subprocess
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.chaos.row_run import Result
from tests.chaos.rows import ROWS
from tests.e2e.server_process import ROOT

RESULTS = ROOT / "docs" / "chaos-results.json"
TABLE = ROOT / "docs" / "chaos.md"

_HEAD = """\
# Faults under load

Written by `make chaos` (`python -m tests.chaos --write`); do not edit. Each row: requests of five
steps each at a fixed rate, from a client that tries again with the same key; a fault (a process
that is started again by itself is only killed); then load until the backlog is gone. At the end
the services' ledgers, the log in Kafka, MongoDB, Redis and the API are compared: lost, doubled and
stuck have to be 0. How machines and faults are made is in `tests/chaos`.

*Refused* were turned away at first and accepted later; the *longest refusal* counts from when such
a request was due. *Behind* is how many were due and not yet done, usually and at most. *Recovery*
counts from healing until no more were behind than usually. Times in seconds.

| fault | requests | refused | longest refusal | behind | recovery | lost | doubled | stuck | |
|---|---|---|---|---|---|---|---|---|---|
"""


def record(results: Sequence[Result], *, servers: str, hold_s: float, rate_per_s: float) -> None:
    """Put results in place of earlier ones of the same rows, and write the table anew."""
    kept: dict[str, Any] = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    where = {
        "machine": machine(),
        "servers": servers,
        "commit": commit(),
        "hold_s": hold_s,
        "rate_per_s": rate_per_s,
    }
    kept |= {each.row: {**each.as_json(), **where} for each in results}
    kept = {row.name: kept[row.name] for row in ROWS if row.name in kept}
    RESULTS.write_text(json.dumps(kept, indent=1, ensure_ascii=False) + "\n")
    TABLE.write_text(table(kept))


def table(results: dict[str, Any]) -> str:
    """Return the page for results by row."""
    lines = [_HEAD]
    lines += [line(name, told) + "\n" for name, told in results.items()]
    lines.append("\n")
    if quiet := results.get(ROWS[0].name, {}).get("cores"):
        used = ", ".join(f"{name} {cores:.2f}" for name, cores in quiet.items() if cores)
        lines.append(f"- Cores in use where nothing happens, by machine: {used}.\n")
    measured = Counter(
        f"at commit {told['commit']}, {told['rate_per_s']:g} requests a second, faults of"
        f" {told['hold_s']:g} s; on {told['machine']}; {told['servers']}"
        for told in results.values()
    )
    lines += [f"- {count} rows {how}.\n" for how, count in sorted(measured.items())]
    if missing := [row.name for row in ROWS if row.name not in results]:
        lines.append(f"- Not run: {', '.join(missing)}.\n")
    return "".join(lines)


def line(name: str, told: dict[str, Any]) -> str:
    """Return one row of the table."""
    acceptance, verdict = told["acceptance"], told["verdict"]
    recovered = told["recovered_s"]
    cells = (
        name,
        acceptance["requests"],
        acceptance["refused_then_accepted"],
        f"{acceptance['longest_refusal_s']:.1f}",
        f"{told['usual_behind']:.0f} / {told['most_behind']}",
        "never" if recovered is None else f"{recovered:.1f}",
        verdict["lost"],
        verdict["doubled"],
        verdict["stuck"],
        "passed" if told["passed"] else "**failed**: " + "; ".join(told["complaints"][:3]),
    )
    return "| " + " | ".join(str(cell).replace("|", "/") for cell in cells) + " |"


def machine() -> str:
    """Describe this machine in a few words."""
    cores = len(Path("/proc/cpuinfo").read_text().split("processor\t")) - 1
    memory_kb = int(Path("/proc/meminfo").read_text().split()[1])
    return f"{cores} cores, {memory_kb >> 20} GiB, Linux {platform.release().split('-')[0]}"


def commit() -> str:
    """Return the commit that is checked out, marked where files differ from it."""
    command = ("git", "describe", "--always", "--dirty", "--abbrev=7", "--exclude=*")
    return subprocess.run(
        command, check=True, capture_output=True, text=True, cwd=ROOT
    ).stdout.strip()
