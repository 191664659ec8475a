"""Exit codes and messages, in this process and as a user's shell sees them."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from orchx.cli.failures import report
from orchx.errors import Unavailable
from tests.unit.cli.conftest import Api, Cli, workflow

NOWHERE = "http://127.0.0.1:9"  # the discard port: nobody listens


def test_violations_are_listed(cli: Cli, api: Api) -> None:
    fault = {"pointer": "/input/[x]", "detail": "is too big", "found": "12", "expected": "0 to 9"}
    api.refuse("POST /v1/requests", "invalid-request", 422, {**fault, "line": 7})
    result = cli.run("submit", "a.b")
    assert (result.exit_code, result.stdout) == (4, "")
    assert result.stderr == (
        "error: it is invalid-request\n"
        "  /input/[x] (line 7): is too big; expected 0 to 9, found 12\n"
    )
    told = json.loads(cli.run("submit", "a.b", "--json").stderr)["error"]
    assert (told["type"], told["violations"][0]["line"]) == ("InvalidRequest", 7)


@pytest.mark.parametrize(
    ("slug", "status", "code", "hint"),
    [
        ("unauthenticated", 401, 4, "orchx keys create"),
        ("forbidden", 403, 4, "--scope"),
        ("not-found", 404, 4, ""),
        ("too-many-requests", 429, 4, "try again in 99 s"),
        ("unavailable", 503, 3, "orchx doctor"),
        ("internal-error", 500, 70, ""),
    ],
)
def test_exit_codes_tell_whose_turn_it_is(
    cli: Cli, api: Api, slug: str, status: int, code: int, hint: str
) -> None:
    api.refuse("GET /v1/workflows", slug, status, Retry_After="99")
    result = cli.run("list")
    assert result.exit_code == code
    assert f"error: it is {slug}" in result.stderr
    assert hint in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    ("message", "hint"),
    [
        ("cannot reach http://127.0.0.1:8600", "Is it running? `orchx up` starts one"),
        ("MongoDB is out of reach (see ORCHX_MONGODB__URI)", "`orchx doctor` with the same"),
    ],
)
def test_a_store_that_is_out_of_reach_is_not_taken_for_the_server(
    capsys: pytest.CaptureFixture[str], message: str, hint: str
) -> None:
    report(Unavailable(message))
    told = capsys.readouterr().err.replace("\n", " ")
    assert message in told
    assert hint in told
    assert ("orchx up" in told) == ("orchx up" in hint)


def test_the_key_of_a_submission_that_may_have_been_taken_is_told(cli: Cli, api: Api) -> None:
    api.refuse("POST /v1/requests", "internal-error", 500)
    result = cli.run("submit", "a.b")
    key = api.asked[-1].headers["idempotency-key"]
    assert f"Sent again with --key {key}, it runs once, " in result.stderr
    told = json.loads(cli.run("submit", "a.b", "--json").stderr)["error"]
    assert told["idempotencyKey"] == api.asked[-1].headers["idempotency-key"] != key
    api.refuse("POST /v1/requests", "invalid-request", 422)
    assert "--key" not in cli.run("submit", "a.b").stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["submit"], "one of TYPE and --definition is needed"),
        (["submit", "a.b", "--definition", "x/y"], "one of TYPE and --definition"),
        (["submit", "a.b", "--input", "{bad"], "--input is not JSON"),
        (["submit", "a.b", "--input", "@nowhere.json"], "nowhere.json cannot be read"),
        (["submit", "a.b", "--deadline", "soon"], "--deadline soon: is no time"),
        (["submit", "a.b", "--label", "x"], "--label x: is no KEY=VALUE"),
        (["submit", "--definition", "x"], "x: is no definition"),
        (["submit", "a.b", "--priority", "10"], "less than or equal to 9"),
        (["list", "--watch", "--json"], "do not go together"),
        (["nonsense"], "No such command"),
        (["show"], "Missing argument"),
    ],
)
def test_wrong_usage_is_2(cli: Cli, api: Api, arguments: list[str], message: str) -> None:
    result = cli.run(*arguments)
    assert result.exit_code == 2
    assert message in result.stderr
    assert not api.asked


def test_a_wrong_url_is_explained(cli: Cli) -> None:
    result = cli.run("list", "--url", "localhost:8600")
    assert result.exit_code == 4
    assert "expected http://HOST:PORT, found localhost:8600" in result.stderr


def test_no_server_is_3_without_a_traceback(cli: Cli) -> None:
    result = cli.start("list", "--url", NOWHERE)
    assert (result.returncode, result.stdout) == (3, "")
    assert result.stderr.startswith(f"error: {NOWHERE} cannot be reached: ")
    assert "`orchx up` starts one" in result.stderr
    assert "Traceback" not in result.stderr
    assert "Traceback" in cli.start("list", "--url", NOWHERE, ORCHX_DEBUG="1").stderr


def test_pipes_and_colours(cli: Cli, api: Api) -> None:
    api.on("GET /v1/workflows", {"workflows": [workflow() for _ in range(5000)]})
    cut = cli.start(script="orchx list --limit 5000 --json | head -n 1")
    assert (cut.stdout, cut.stderr) == ("{\n", "")
    assert cut.returncode == 141
    table = cli.start(script="orchx list --limit 5000 | head -n 1")
    assert (table.stdout.split()[0], table.stderr) == ("ID", "")
    assert table.returncode == 141
    assert "\x1b" not in cli.start("list").stdout


def _interruptible() -> None:
    """Undo what a shell does to its background jobs, these tests perhaps: ignore SIGINT."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def test_ctrl_c_is_clean(cli: Cli, api: Api) -> None:
    api.on("POST /v1/requests", {"id": "wf_1", "status": "pending"}, 202)
    api.on("GET /v1/workflows/wf_1", workflow(id="wf_1", status="waiting"))
    command = [str(Path(sys.executable).with_name("orchx")), "submit", "a.b", "--wait", "300"]
    with subprocess.Popen(
        command,
        env={**cli.environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=_interruptible,
    ) as process:
        for _ in range(2):  # the submission, and the first look at how it goes
            assert api.arrived.acquire(timeout=30)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
    assert (process.returncode, out, err) == (130, "", "")


def test_help_is_quick_because_it_imports_little(cli: Cli) -> None:
    code = (
        "import sys; from orchx.cli.main import app\n"
        "try: app(['--help'])\nexcept SystemExit: pass\n"
        "heavy = {'ray', 'httpx', 'pydantic', 'starlette', 'jq', 'yaml'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert "Start a server here" in done.stdout


def test_completion_offers_the_commands(cli: Cli) -> None:
    done = cli.start("", _ORCHX_COMPLETE="complete_bash", COMP_WORDS="orchx s", COMP_CWORD="1")
    assert done.stdout.split() == ["submit", "show", "signal", "services"]
