"""`orchx submit`."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from rich.text import Text
from typer.core import TyperCommand

from orchx.cli import failures
from orchx.cli.failures import UsageError
from orchx.cli.options import (
    ApiKey,
    Json,
    Url,
    connect,
    parse_json,
    read_json,
    read_labels,
    read_reference,
    read_text,
    read_time,
)
from orchx.cli.screen import console, print_json, print_json_line, status_text
from orchx.cli.workflow_view import outcome, watch, workflow_detail
from orchx.client import Client, Submission, Workflow
from orchx.client.exchange import rfc3339

DEFAULT_WAIT_S: Final = 60.0

app = typer.Typer(add_completion=False)


class SubmitCommand(TyperCommand):
    """Lets `--wait` stand without its number of seconds."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put the default behind a bare `--wait`."""
        return super().parse_args(ctx, with_default_wait(args))


def with_default_wait(args: list[str]) -> list[str]:
    """Return the arguments with a number behind every `--wait`."""
    complete: list[str] = []
    for position, arg in enumerate(args):
        complete.append(arg)
        if arg == "--":
            return complete + args[position + 1 :]
        if arg == "--wait" and not _is_number(args[position + 1 : position + 2]):
            complete.append(f"{DEFAULT_WAIT_S:g}")
    return complete


def _is_number(following: list[str]) -> bool:
    try:
        return bool(following) and float(following[0]) >= 0
    except ValueError:
        return False


@app.command("submit", cls=SubmitCommand)
def submit(
    type_: Annotated[
        str | None, typer.Argument(metavar="[TYPE]", help="Type of request: hr.onboarding.")
    ] = None,
    definition: Annotated[
        str | None,
        typer.Option("--definition", metavar="NS/NAME[:VERSION]", help="Instead of a type."),
    ] = None,
    input_: Annotated[
        str | None, typer.Option("--input", metavar="JSON|@FILE|-", help="What it works on.")
    ] = None,
    file: Annotated[
        Path | None,
        typer.Option("--file", help="The whole request as JSON (or -); options override it."),
    ] = None,
    tenant: Annotated[str | None, typer.Option("--tenant")] = None,
    priority: Annotated[
        int | None, typer.Option("--priority", min=0, max=9, help="0 is the most urgent.")
    ] = None,
    deadline: Annotated[
        str | None, typer.Option("--deadline", metavar="TIME", help="2026-03-01T12:00:00Z")
    ] = None,
    label: Annotated[
        list[str] | None, typer.Option("--label", metavar="KEY=VALUE", help="Repeatable.")
    ] = None,
    key: Annotated[
        str | None,
        typer.Option("--key", help="Idempotency key: the same one never starts a second."),
    ] = None,
    wait: Annotated[
        float | None,
        typer.Option("--wait", metavar="[SECONDS]", min=0, help="Wait for the end; 60 s if bare."),
    ] = None,
    follow: Annotated[bool, typer.Option("--follow", help="Show its tasks until it ends.")] = False,
    url: Url = None,
    api_key: ApiKey = None,
    json_: Json = False,
) -> None:
    """Submit a request.

    Exit code 1 if it was waited for and failed, 5 if it was still running when time was up.
    """
    request = _request(type_, definition, input_, file)
    given = {
        "tenant": tenant,
        "priority": priority,
        "deadline": None if deadline is None else rfc3339(_time(deadline)),
        "labels": read_labels(label) or None,
    }
    request |= {name: value for name, value in given.items() if value is not None}
    if ("type" in request) == ("definition" in request):
        raise UsageError(
            "one of TYPE and --definition is needed",
            'Like: orchx submit hr.onboarding --input \'{"employee": "Ada"}\'',
        )
    with connect(url, api_key) as client:
        done = client.submit(request, key=key, wait_s=None if follow else wait)
        if follow:
            raise typer.Exit(_follow(client, done, json_))
    if json_:
        print_json(_as_json(done))
    elif done.workflow is None:
        _print_submission(done)
    else:
        console().print(workflow_detail(done.workflow, (), datetime.now(UTC)))
    raise typer.Exit(exit_code_of(done.workflow))


def exit_code_of(workflow: Workflow | None) -> int:
    """Return the exit code for a workflow that was waited for; None: it was not."""
    if workflow is None or workflow.status == "completed":
        return failures.OK
    return failures.FAILED if workflow.ended else failures.STILL_RUNNING


def _follow(client: Client, done: Submission, as_json: bool) -> int:
    if as_json:
        for event in client.follow(done.id):
            print_json_line(event.raw)
    else:
        _print_submission(done)
        watch(client.follow(done.id), done.id, console())
    # The projection may lag behind the log by a moment.
    workflow = client.wait(done.id, timeout_s=DEFAULT_WAIT_S)
    if as_json:
        print_json_line(workflow)
    else:
        console().print(outcome(workflow))
    return exit_code_of(workflow)


def _print_submission(done: Submission) -> None:
    line = Text(f"{done.id}  ").append_text(status_text(done.status))
    if done.replayed:
        line.append("  (the key was known: nothing new was started)", style="yellow")
    console().print(line, soft_wrap=True)


def _as_json(done: Submission) -> Any:
    return done.workflow or {
        "id": done.id,
        "status": done.status,
        "idempotencyKey": done.idempotency_key,
        "replayed": done.replayed,
    }


def _request(
    type_: str | None, definition: str | None, input_: str | None, file: Path | None
) -> dict[str, Any]:
    request: dict[str, Any] = {}
    if file is not None:
        whole = parse_json(read_text(file), str(file), "--file")
        if not isinstance(whole, Mapping):
            raise UsageError(f"{file} is not a request: a JSON object is expected")
        request = dict(whole)
    if type_ is not None:
        request.pop("definition", None)
        request["type"] = type_
    if definition is not None:
        if type_ is None:
            request.pop("type", None)
        namespace, name, version = read_reference(definition)
        request["definition"] = {"namespace": namespace, "name": name, "version": version}
    if input_ is not None:
        request["input"] = read_json(input_, "--input")
    return request


def _time(text: str) -> datetime:
    at = read_time(text, "--deadline")
    if at is None:
        raise UsageError("--deadline needs a time")
    return at
