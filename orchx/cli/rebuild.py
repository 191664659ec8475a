"""`orchx rebuild`: proves that the stores are what the log makes, or makes them anew."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any, Literal

import typer
from rich.console import Console

from orchx.cli import failures
from orchx.cli.environment_settings import read_settings
from orchx.cli.failures import UsageError
from orchx.cli.options import DEFAULT_DATA_DIR, DataDir, Json
from orchx.cli.screen import console, print_json, span, table
from orchx.cli.stage_bar import StageBar
from orchx.engine.comparison import Difference, Tally
from orchx.engine.verification import SHOWN_MAX, Verdict
from orchx.maintenance.replacing import Replaced, replace
from orchx.maintenance.verifying import verify

app = typer.Typer(add_completion=False)


@app.command("rebuild")
def rebuild(
    replace_: Annotated[
        bool,
        typer.Option("--replace", help="Make them anew in their place; no engine may serve."),
    ] = False,
    webhooks: Annotated[
        Literal["resend", "skip"] | None,
        typer.Option(
            "--webhooks", help="With --replace, when the database is lost: send all again, or none."
        ),
    ] = None,
    show: Annotated[
        int, typer.Option("--show", min=1, max=10_000, help="Differences shown of each store.")
    ] = SHOWN_MAX,
    data_dir: DataDir = DEFAULT_DATA_DIR,
    json_: Json = False,
) -> None:
    """Make what is made from the log once more, and compare.

    Current states, histories, the index of requests, and what the cache would serve. Nothing
    that is live is changed, and the server may go on serving. Exit code 1: something differs.

    With --replace they are made anew in their place: for when they are lost, or differ. The
    catalog and the webhooks on their way are not made from the log, and stay as they are.
    """
    if webhooks is not None and not replace_:
        raise UsageError("--webhooks goes with --replace")
    settings = read_settings().model_copy(update={"data_dir": data_dir})
    if replace_:
        with StageBar(shown=not json_) as bar:
            done = asyncio.run(replace(settings, webhooks=webhooks, told=bar.tell))
        _tell_replaced(done, as_json=json_)
        return
    with StageBar(shown=not json_) as bar:
        verdict = asyncio.run(verify(settings, shown_max=show, told=bar.tell))
    if json_:
        print_json(_verdict_json(verdict))
    else:
        _print_verdict(console(), verdict)
    raise typer.Exit(failures.OK if verdict.equal else failures.FAILED)


def _print_verdict(screen: Console, verdict: Verdict) -> None:
    made = table("STORE", "LIVE", "REBUILT", "EQUAL", "DIFFER", "MAY DIFFER", right=_NUMBERS)
    for tally in verdict.stores:
        excused = ", ".join(f"{count:,} {reason}" for reason, count in tally.excused.items())
        numbers = (tally.live, tally.rebuilt, tally.equal, tally.differing)
        made.add_row(tally.store, *(f"{number:,}" for number in numbers), excused)
    screen.print(made)
    for tally in verdict.stores:
        for difference in tally.differences:
            screen.print(_line_of(difference), markup=False, soft_wrap=True)
        if tally.differing > len(tally.differences):
            more = tally.differing - len(tally.differences)
            screen.print(f"  … {more:,} more in {tally.store}: --show", markup=False)
    if verdict.gaps:
        screen.print(f"the log lacks records: {verdict.gaps:,} could not be applied: a defect")
    if verdict.empty:
        parts = ", ".join(map(str, verdict.empty))
        screen.print(f"nothing is there of partitions {parts}: `orchx rebuild --replace`")
    elif verdict.behind:
        parts = ", ".join(map(str, verdict.behind))
        screen.print(f"not projected to the end (partitions {parts}): compared up to where it is")
    times = f"{span(verdict.projecting_s)} to project, {span(verdict.comparing_s)} to compare"
    wrong = sum(tally.differing for tally in verdict.stores)
    if verdict.equal:
        screen.print(f"equal: {verdict.records:,} records; {times}")
    elif wrong or verdict.empty:
        screen.print(f"NOT equal: {wrong:,} differ; {verdict.records:,} records; {times}")
        screen.print("Stop all engines, and `orchx rebuild --replace` makes it right.", style="dim")
    else:
        screen.print(f"equal, but the log is not whole: {verdict.records:,} records; {times}")


_NUMBERS = ("LIVE", "REBUILT", "EQUAL", "DIFFER")


def _line_of(difference: Difference) -> str:
    lines = [f"  {difference.store} {difference.key}: {difference.kind}"]
    lines += [
        f"    {name}: {live}, by the log {rebuilt}"
        for name, (live, rebuilt) in difference.fields.items()
    ]
    return "\n".join(lines)


def _verdict_json(verdict: Verdict) -> dict[str, Any]:
    return {
        "equal": verdict.equal,
        "records": verdict.records,
        "gaps": verdict.gaps,
        "offsets": {str(p): str(offset) for p, offset in verdict.offsets.items()},
        "behind": sorted(verdict.behind),
        "empty": verdict.empty,
        "projectingS": round(verdict.projecting_s, 3),
        "comparingS": round(verdict.comparing_s, 3),
        "stores": [_tally_json(tally) for tally in verdict.stores],
    }


def _tally_json(tally: Tally) -> dict[str, Any]:
    return {
        "store": tally.store,
        "live": tally.live,
        "rebuilt": tally.rebuilt,
        "equal": tally.equal,
        "differing": tally.differing,
        "excused": dict(tally.excused),
        "differences": [
            {
                "key": one.key,
                "kind": one.kind,
                "fields": {
                    name: {"live": live, "rebuilt": rebuilt}
                    for name, (live, rebuilt) in one.fields.items()
                },
            }
            for one in tally.differences
        ],
    }


def _tell_replaced(done: Replaced, *, as_json: bool) -> None:
    if as_json:
        print_json(
            {
                "replaced": True,
                "workflows": done.workflows,
                "records": done.records,
                "gaps": done.gaps,
                "cached": done.cached,
                "tookS": round(done.took_s, 3),
            }
        )
        return
    screen = console()
    counts = ", ".join(f"{count:,} {status}" for status, count in sorted(done.workflows.items()))
    total = sum(done.workflows.values())
    screen.print(f"replaced: {total:,} workflows ({counts or 'none'})")
    screen.print(f"{done.records:,} records in {span(done.took_s)}")
    if done.gaps:
        screen.print(f"the log lacks records: {done.gaps:,} could not be applied: a defect")
    if done.cached is False:
        screen.print("Redis did not take all of it: it fills by itself while engines serve")
    screen.print("`orchx rebuild` proves that nothing differs.", style="dim")
