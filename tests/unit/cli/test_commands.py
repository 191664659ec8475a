"""What a person sees, and what a program gets, from every command."""

from __future__ import annotations

import importlib
import inspect
import json
import re
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlencode

import pytest
from typer.main import get_command

from orchx.adapters.webhook_secret import tenant_secret, webhook_secret
from orchx.cli import deliveries as deliveries_command
from orchx.cli.demo_command import DemoOptions
from orchx.cli.main import OrchxGroup, app
from orchx.cli.submit import with_default_wait
from orchx.cli.up_command import UpOptions
from orchx.settings import Settings
from tests.unit.cli.conftest import HISTORY, Answer, Api, Asked, Cli, sse, workflow

ID = "wf_06f8k3a1b2c3d4e5f6g7h8"


def shown(text: str) -> str:
    """Return what was printed without trailing blanks, ages made the same."""
    text = re.sub(r"\b\d+[dhms] ago", "AGO", text)
    return "\n".join(line.rstrip() for line in text.splitlines())


def test_list_shows_one_line_a_workflow(cli: Cli, api: Api) -> None:
    error = {"type": "https://x/errors/timeout", "status": 408, "title": "Too slow" * 20}
    waiting = {"eventTypes": ["com.example.approved"]}
    api.on(
        "GET /v1/workflows",
        {
            "workflows": [
                workflow(),
                workflow(id="wf_2", status="waiting", task="/do/1/ask", waiting=waiting),
                workflow(id="wf_3", status="faulted", error=error),
            ]
        },
    )
    result = cli.run("list", "--status", "completed", "--status", "waiting", "--label", "a=b=c")
    head, *lines = result.stdout.splitlines()
    assert head.split() == ["ID", "STATUS", "DEFINITION", "AGE", "NOW", "AT"]
    assert lines[0].startswith(f"{ID}  ✔ completed  hr/onboarding:1.2.0  ")
    assert lines[1].rstrip().endswith("/do/1/ask for com.example.approved")
    assert "timeout 408: Too slow" in lines[2]
    assert len(lines) == 3
    assert api.asked[0].query == ("status=completed&status=waiting&label=a%3Db%3Dc&limit=51")


def test_list_says_when_there_is_more_and_when_there_is_nothing(cli: Cli, api: Api) -> None:
    api.on("GET /v1/workflows", {"workflows": [workflow(), workflow()]})
    assert "There are more: --limit 2 shows them." in cli.run("list", "--limit", "1").stdout
    assert json.loads(cli.run("list", "--limit", "1", "--json").stdout)["more"] is True
    api.on("GET /v1/workflows", {"workflows": []})
    assert cli.run("list").stdout == "No workflows.\n"
    assert json.loads(cli.run("list", "--json").stdout) == {"workflows": [], "more": False}


def test_show_tells_all_about_a_workflow(cli: Cli, api: Api) -> None:
    api.on(f"GET /v1/workflows/{ID}", workflow())
    api.on(f"GET /v1/workflows/{ID}/history", HISTORY)
    assert shown(cli.run("show", ID).stdout) == (
        """\
workflow    wf_06f8k3a1b2c3d4e5f6g7h8
status      ✔ completed
definition  hr/onboarding:1.2.0
type        hr.onboarding
tenant      hr, priority 3
labels      country=NO
created     2026-03-01 09:30:00 UTC, AGO
ended       2026-03-01 09:30:05 UTC, after 5.2 s
STATUS       TASK                SERVICE  RUNS   TIME  ERROR
✔ completed  /do/0/check                     1   3 ms
✔ completed  /do/1/try                       1  6.0 s
✔ completed  /do/1/try/0/laptop  it-desk     2  1.2 s
→ skipped    /do/2/parking
output
{
  "laptop": "L-1"
}"""
    )


def test_show_json_is_the_apis_document(cli: Cli, api: Api) -> None:
    api.on(f"GET /v1/workflows/{ID}", workflow())
    printed = json.loads(cli.run("show", ID, "--json").stdout)
    assert printed.items() >= {k: v for k, v in workflow().items() if k != "links"}.items()


def test_show_strong_asks_for_it_and_an_old_answer_says_so(cli: Cli, api: Api) -> None:
    api.on(f"GET /v1/workflows/{ID}", workflow(status="running", ageMs=61_000))
    result = cli.run("show", ID, "--no-tasks")
    assert "as of       1m 1s ago: the state service is behind" in result.stdout
    api.on(f"GET /v1/workflows/{ID}", workflow(status="running", ageMs=1_900))
    assert "as of" not in cli.run("show", ID, "--no-tasks", "--strong").stdout
    assert [asked.query for asked in api.asked] == ["", "consistency=strong"]
    assert json.loads(cli.run("show", ID, "--json").stdout)["ageMs"] == 1_900


def test_show_says_why_a_workflow_failed(cli: Cli, api: Api) -> None:
    error = {
        "type": "https://x/errors/timeout",
        "status": 408,
        "title": "Slow",
        "instance": "/do/1",
    }
    api.on(f"GET /v1/workflows/{ID}", workflow(status="faulted", error=error, output=None))
    result = cli.run("show", ID, "--no-tasks")
    assert shown(result.stdout).endswith("error  timeout 408: Slow\n   at  /do/1")
    assert result.exit_code == 0, "showing a failure is no failure"


def test_history_shows_a_line_an_event(cli: Cli, api: Api) -> None:
    api.on(f"GET /v1/workflows/{ID}/history", HISTORY)
    lines = [line.rstrip() for line in cli.run("history", ID).stdout.splitlines()]
    assert lines[5] == (
        "09:30:05.000  task.faulted                   /do/1/try/0/laptop  communication 503: Busy"
    )
    assert lines[3].endswith("/do/1/try/0/laptop  service → it-desk")
    raw = cli.run("history", ID, "--raw").stdout.splitlines()
    assert [json.loads(line) for line in raw] == HISTORY
    assert json.loads(cli.run("history", ID, "--json").stdout) == HISTORY


def test_history_follows(cli: Cli, api: Api) -> None:
    api.on(f"GET /v1/workflows/{ID}/events", sse(*HISTORY))
    result = cli.run("history", ID, "--follow", "--after", "9")
    assert [line.split()[1] for line in result.stdout.splitlines()] == [
        "task.skipped",
        "workflow.completed",
    ]


def test_submit_sends_the_request(cli: Cli, api: Api, tmp_path: Path) -> None:
    api.on("POST /v1/requests", {"id": ID, "status": "pending"}, 202)
    whole = tmp_path / "request.json"
    whole.write_text('{"type": "a.b", "input": {"a": 1}, "correlationId": "X"}')
    arguments = ["--definition", "hr/onboarding:1.0.0", "--file", str(whole), "--tenant", "hr"]
    more = ["--priority", "0", "--deadline", "2026-03-01T12:00:00+01:00", "--label", "c=NO"]
    result = cli.run("submit", *arguments, *more, "--key", "k1", "--input", "-", input='{"b": 2}')
    assert result.stdout == f"{ID}  · pending\n"
    assert api.asked[0].json == {
        "definition": {"namespace": "hr", "name": "onboarding", "version": "1.0.0"},
        "input": {"b": 2},
        "correlationId": "X",
        "tenant": "hr",
        "priority": 0,
        "deadline": "2026-03-01T11:00:00.000Z",
        "labels": {"c": "NO"},
    }
    assert api.asked[0].headers["idempotency-key"] == "k1"


@pytest.mark.parametrize(
    ("status", "code"), [("completed", 0), ("faulted", 1), ("cancelled", 1), ("waiting", 5)]
)
def test_submit_wait_exits_by_the_outcome(cli: Cli, api: Api, status: str, code: int) -> None:
    document = workflow(status=status)
    accepted = {"id": ID, "status": status}
    api.on("POST /v1/requests", *((accepted, 202) if code == 5 else (document, 200)))
    api.on(f"GET /v1/workflows/{ID}", document)
    result = cli.run("submit", "a.b", "--wait", "0.01")
    assert result.exit_code == code
    assert status in result.stdout
    assert "wait=0.01" in api.asked[0].query


def test_submit_follow_shows_tasks_as_they_happen(cli: Cli, api: Api) -> None:
    api.on("POST /v1/requests", {"id": ID, "status": "pending"}, 202)
    api.on(f"GET /v1/workflows/{ID}/events", sse(*HISTORY))
    api.on(f"GET /v1/workflows/{ID}", workflow())
    result = cli.run("submit", "a.b", "--follow")
    lines = [line.rstrip() for line in result.stdout.splitlines()]
    assert lines[1] == "09:30:01  ✔ completed  /do/0/check  3 ms"
    assert (
        "09:30:05  ✘ faulted    /do/1/try/0/laptop  by it-desk  1.0 s  communication 503: Busy"
        in lines
    )
    assert lines[-3:] == ["{", '  "laptop": "L-1"', "}"]
    printed = cli.run("submit", "a.b", "--follow", "--json").stdout.splitlines()
    assert [json.loads(line) for line in printed[:-1]] == HISTORY
    assert json.loads(printed[-1])["status"] == "completed"


@pytest.mark.parametrize(
    ("arguments", "complete"),
    [
        (["a", "--wait"], ["a", "--wait", "60"]),
        (["--wait", "a.b"], ["--wait", "60", "a.b"]),
        (["--wait", "5", "a.b"], ["--wait", "5", "a.b"]),
        (["--wait=5"], ["--wait=5"]),
        (["--wait", "--json"], ["--wait", "60", "--json"]),
        (["--", "--wait"], ["--", "--wait"]),
    ],
)
def test_a_bare_wait_has_a_default(arguments: list[str], complete: list[str]) -> None:
    assert with_default_wait(arguments) == complete


def test_signal_and_cancel(cli: Cli, api: Api) -> None:
    api.on(f"POST /v1/workflows/{ID}/events", {"commandId": "ev_1", "replayed": True}, 202)
    api.on("POST /v1/events", {"commandId": "ev_2"}, 202)
    api.on(f"POST /v1/workflows/{ID}/cancel", {"commandId": "ca_1"}, 202)
    told = cli.run("signal", ID, "approved", "--data", '{"by": "Bo"}', "--event-id", "e1").stdout
    assert told == f"approved sent to {ID} (it had been sent before)\n"
    assert api.asked[0].json["data"] == {"by": "Bo"}
    assert cli.run("signal", "all", "x").stdout == "x sent to every workflow that listens\n"
    assert cli.run("cancel", ID, "--reason", "no [bold]").stdout == f"{ID} will be cancelled\n"
    assert api.asked[2].json == {"reason": "no [bold]"}
    assert json.loads(cli.run("cancel", ID, "--json").stdout) == {
        "commandId": "ca_1",
        "replayed": False,
    }


def test_definitions(cli: Cli, api: Api, tmp_path: Path) -> None:
    entry = {"namespace": "hr", "name": "a", "version": "1.0.0", "digest": "9f86d081884c7d65"}
    api.on("GET /v1/definitions", {"definitions": [entry]})
    api.on("GET /v1/definitions/hr/a/latest", b"# mine\ndo: []\n")
    api.on("POST /v1/definitions", entry, 201)
    api.on("DELETE /v1/definitions/hr/a/1.0.0", None, 204)
    assert "hr/a        1.0.0" in cli.run("definitions", "list").stdout
    assert cli.run("definitions", "show", "hr/a").stdout == "# mine\ndo: []\n"
    document = tmp_path / "a.yaml"
    document.write_text("do: []")
    done = cli.run("definitions", "publish", str(document), "--type", "hr.a")
    assert done.stdout == "hr/a:1.0.0 is published\n"
    assert api.asked[-1].query == "requestType=hr.a"
    assert cli.run("definitions", "retire", "hr/a:1.0.0").exit_code == 0
    assert cli.run("definitions", "retire", "hr/a").exit_code == 2


def test_definitions_validate_needs_no_server(cli: Cli, api: Api, tmp_path: Path) -> None:
    good, bad = tmp_path / "good.yaml", tmp_path / "bad.yaml"
    text = (
        "document: {dsl: 1.0.3, namespace: hr, name: a, version: 1.0.0}\ndo:\n- a: {set: {b: 1}}\n"
    )
    good.write_text(text)
    bad.write_text(text.replace("set", "sett"))
    assert cli.run("definitions", "validate", str(good)).stdout == "hr/a:1.0.0 is valid\n"
    result = cli.run("definitions", "validate", str(bad))
    assert result.exit_code == 4
    assert "error: The document is not a valid workflow" in result.stderr
    assert "(line 3)" in result.stderr
    assert not api.asked


def test_services(cli: Cli, api: Api, tmp_path: Path) -> None:
    entry = {
        "name": "it-desk",
        "baseUrl": "https://it",
        "operations": [{"capability": "it.laptop", "path": "/l"}, {"capability": "it.back"}],
        "ratePerS": 5,
    }
    api.on("GET /v1/services", {"services": [entry]})
    api.on("PUT /v1/services", {"services": [entry]})
    lines = cli.run("services", "list").stdout.splitlines()
    assert re.split(" {2,}", lines[1].strip()) == [
        "it-desk",
        "https://it",
        "it.laptop",
        "POST /l",
        "64 at once, 5/s",
    ]
    file = tmp_path / "services.yaml"
    file.write_text("services: [{name: it-desk, baseUrl: 'https://it'}]")
    assert cli.run("services", "put", str(file)).stdout == "stored: it-desk\n"
    assert api.asked[-1].json == {"services": [{"name": "it-desk", "baseUrl": "https://it"}]}
    file.write_text("just words")
    assert cli.run("services", "put", str(file)).exit_code == 2


def test_deliveries(cli: Cli, api: Api) -> None:
    entry = {"id": "msg_1", "workflowId": "wf_1", "status": "undelivered", "url": "https://hr/h"}
    api.on("GET /v1/deliveries", {"deliveries": [entry]})
    api.on("POST /v1/deliveries/replay", {"replayed": 1})
    assert "msg_1  undelivered" in cli.run("deliveries", "list").stdout
    assert cli.run("deliveries", "replay", "--all").stdout == "1 will be sent again\n"
    assert api.asked[-1].json == {"ids": ["msg_1"]}
    assert cli.run("deliveries", "replay").exit_code == 2


def undelivered(api: Api, count: int) -> dict[str, str]:
    """Have the server hold so many deliveries, by page; return the status of each."""
    held = {f"msg_{number:04}": "undelivered" for number in range(count)}

    def list_(asked: Asked) -> Answer:
        query = dict(parse_qsl(asked.query))
        limit, after = int(query["limit"]), query.get("cursor", "")
        behind = [key for key in held if key > after and held[key] == query["status"]]
        page = [{"id": key, "workflowId": "w", "status": held[key]} for key in behind[:limit]]
        following = f"</v1/deliveries?{urlencode({**query, 'cursor': behind[:limit][-1]})}>"
        headers = {"Link": f'{following}; rel="next"'} if len(behind) > limit else {}
        return 200, {"deliveries": page}, headers

    def replay(asked: Asked) -> Answer:
        ids = [key for key in asked.json["ids"] if held[key] == "undelivered"]
        # every other one fails at once again
        held.update((key, "delivered") for key in ids if int(key[-4:]) % 2)
        return 200, {"replayed": len(ids)}, {}

    api.answers |= {"GET /v1/deliveries": list_, "POST /v1/deliveries/replay": replay}
    return held


def test_replay_all_replays_each_one_once_and_all_of_them(cli: Cli, api: Api) -> None:
    held = undelivered(api, 1_201)
    assert cli.run("deliveries", "replay", "--all").stdout == "1201 will be sent again\n"
    replayed = [key for asked in api.asked if asked.method == "POST" for key in asked.json["ids"]]
    assert replayed == list(held)
    assert max(len(a.json["ids"]) for a in api.asked if a.method == "POST") == 500


def test_replay_all_says_where_it_stops(
    cli: Cli, api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deliveries_command, "MAX_REPLAYED", 3)
    undelivered(api, 9)
    assert cli.run("deliveries", "replay", "--all").stdout == (
        "3 will be sent again\nThere are more: run it again.\n"
    )


def test_deliveries_says_when_there_is_more(cli: Cli, api: Api) -> None:
    undelivered(api, 3)
    options = ("deliveries", "list", "--status", "undelivered", "--limit")
    assert "There are more: --limit 4 shows them." in cli.run(*options, "2").stdout
    assert "more" not in cli.run(*options, "3").stdout
    found = json.loads(cli.run(*options, "2", "--json").stdout)
    assert ([each["id"] for each in found["deliveries"]], found["more"]) == (
        ["msg_0000", "msg_0001"],
        True,
    )


def test_a_tenant_s_webhook_secret_is_shown(cli: Cli, tmp_path: Path) -> None:
    options = ("deliveries", "secret", "--data-dir", str(tmp_path), "--tenant")
    early = cli.run(*options, "hr")
    assert early.exit_code == 2, "a secret made here would not be the server's"
    assert not list(tmp_path.iterdir())
    master = webhook_secret(Settings(data_dir=tmp_path))
    assert cli.run(*options, "No Such Tenant!").exit_code == 2
    shown_ = cli.run(*options, "hr")
    assert shown_.stdout == f"{tenant_secret(master, 'hr')}\n", "stdout is the secret alone"
    assert "receivers of hr" in shown_.stderr
    other = json.loads(cli.run(*options, "it", "--json").stdout)
    assert other == {"tenant": "it", "secret": tenant_secret(master, "it")}
    missing = cli.run("deliveries", "secret", "--tenant", "hr", "--data-dir", str(tmp_path / "no"))
    assert missing.exit_code == 2, "a secret made in a wrong folder would be nobody's"
    assert not (tmp_path / "no").exists()


def test_keys_are_made_listed_and_revoked(cli: Cli, tmp_path: Path) -> None:
    data = ("--data-dir", str(tmp_path))
    made = cli.run("keys", "create", "ci", "--scope", "submit", "--scope", "read", *data)
    token = made.stdout.strip()
    key_id = token.split("_")[1]
    assert re.fullmatch(r"orx_[0-9a-f]+_\S+", token), "stdout is the token alone, for $(...)"
    assert "cannot be shown again" in made.stderr
    listed = cli.run("keys", "list", *data).stdout
    assert key_id in listed
    assert "submit, read" in listed
    assert token not in listed
    assert cli.run("keys", "revoke", key_id, *data).exit_code == 0
    assert json.loads(cli.run("keys", "list", "--json", *data).stdout)["keys"][0]["revokedAt"]
    assert cli.run("keys", "revoke", "nobody", *data).exit_code == 4
    assert cli.run("keys", "create", "x", "--scope", "all", *data).exit_code == 2


def test_up_and_demo_hand_their_options_over(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    got: list[Any] = []

    class Body:
        @staticmethod
        def run_up(options: UpOptions) -> int:
            got.append(options)
            return 3

        run_demo = run_up

    monkeypatch.setattr(importlib, "import_module", _lazily(Body))
    arguments = ["--port", "0", "--data-dir", str(tmp_path), "--tasks", "a", "--tasks", "b"]
    assert cli.run("up", *arguments, "--no-auth", "--dedicated", "4").exit_code == 3
    assert got[0] == UpOptions(
        host=None,
        port=0,
        data_dir=tmp_path,
        replicas=None,
        dedicated=4,
        tasks=("a", "b"),
        definitions=(),
        services=(),
        examples=False,
        sandbox_port=8610,
        authentication=False,
        log_level=None,
        json=False,
    )
    cli.run("demo", "--requests", "7", "--json")
    assert got[1] == DemoOptions(requests=7, seed=1, keep=False, json=True)


def _lazily(body: Any) -> Any:
    real = importlib.import_module
    bodies = ("orchx.cli.up", "orchx.cli.demo")
    return lambda name: body if name in bodies else real(name)


@pytest.mark.parametrize("name", list(OrchxGroup.table))
def test_help_is_in_step_with_the_commands(name: str) -> None:
    group: Any = get_command(app)
    command = group.get_command(group.make_context("orchx", ["version"]), name)
    summary = (inspect.cleandoc(command.help or "")).split("\n")[0]
    assert summary == OrchxGroup.table[name].summary


def test_every_command_has_json() -> None:
    group: Any = get_command(app)
    context = group.make_context("orchx", ["version"])
    for name in OrchxGroup.table:
        command = group.get_command(context, name)
        for leaf in getattr(command, "commands", {name: command}).values():
            assert any("--json" in parameter.opts for parameter in leaf.params), leaf.name
