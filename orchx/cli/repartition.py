"""`orchx repartition`: gives the log another number of partitions."""

from __future__ import annotations

import asyncio
import re
from typing import Annotated, Final

import typer

from orchx.cli.environment_settings import read_settings
from orchx.cli.failures import UsageError
from orchx.cli.options import Json
from orchx.cli.screen import console, print_json, span
from orchx.cli.stage_bar import StageBar
from orchx.maintenance.repartitioning import PARTITIONS_MAX, Repartitioned, repartition, undo

PREFIX: Final = re.compile(r"[a-zA-Z0-9._-]{1,100}")

app = typer.Typer(add_completion=False)


@app.command("repartition")
def repartition_command(
    partitions: Annotated[
        int | None,
        typer.Option("--partitions", min=1, max=PARTITIONS_MAX, help="How many there are to be."),
    ] = None,
    to: Annotated[
        str | None,
        typer.Option("--to", help="Topic prefix of the new topics; else the next generation's."),
    ] = None,
    undo_: Annotated[
        bool, typer.Option("--undo", help="Give up one that was cut short, before its switch.")
    ] = False,
    json_: Json = False,
) -> None:
    """Give the log another number of partitions.

    It moves to new topics, in order, and the commands with it. All engines have to be stopped.
    At its end it says what ORCHX_KAFKA__TOPIC_PREFIX has to be from then on. Cut short, it is run
    again. The old topics stay, and take nothing any more.
    """
    if undo_ == (partitions is not None) or (undo_ and to is not None):
        raise UsageError("Give --partitions N, or --undo alone")
    if to is not None and PREFIX.fullmatch(to) is None:
        raise UsageError(f"--to {to}: is no topic prefix", "Letters, digits and . _ - only.")
    settings = read_settings()
    if partitions is None:
        asyncio.run(undo(settings))
        if json_:
            print_json({"undone": True})
        else:
            console().print("undone: the topics take records again, and engines can start")
        return
    with StageBar(shown=not json_) as bar:
        done = asyncio.run(repartition(settings, partitions=partitions, to=to, told=bar.tell))
    if json_:
        print_json(
            {
                "topicPrefix": done.topic_prefix,
                "partitions": done.partitions,
                "turns": done.turns,
                "commands": done.commands,
                "unacknowledged": done.unacknowledged,
                "workflows": done.replaced.workflows,
                "oldTopics": done.old_topics,
                "tookS": round(done.took_s, 3),
            }
        )
    else:
        _tell(done)


def _tell(done: Repartitioned) -> None:
    screen = console()
    total = sum(done.replaced.workflows.values())
    screen.print(
        f"{total:,} workflows in {done.turns:,} turns, {done.commands:,} commands "
        f"({done.unacknowledged:,} of them waiting): {done.partitions} partitions, "
        f"in {span(done.took_s)}"
    )
    screen.print("Set this for every engine, and start them:", style="bold")
    screen.print(f"  ORCHX_KAFKA__TOPIC_PREFIX={done.topic_prefix}", markup=False)
    screen.print("`orchx rebuild` proves that nothing differs. Delete when you are content:")
    for topic in done.old_topics:
        screen.print(f"  {topic}", markup=False)
