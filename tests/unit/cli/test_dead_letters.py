"""`orchx dead-letters`, against a scripted server."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest

from tests.unit.cli.conftest import Answer, Api, Asked, Cli

PATH = "/v1/dead-letters"


def letter(number: int = 17, **fields: Any) -> dict[str, Any]:
    return {
        "number": number,
        "kind": "command",
        "topic": "orchx.commands",
        "partition": 2,
        "offset": 1534,
        "at": "2026-03-01T09:30:00.000Z",
        "keptAt": "2026-03-01T09:30:01.000Z",
        "error": "malformed",
        "sizeBytes": 28,
        "preview": '{"kind":"\x1b[31mdance"}',
        "copies": 1,
        "handled": None,
        **fields,
    }


def page(*letters: Any, **fields: Any) -> dict[str, Any]:
    return {"kept": True, "deadLetters": letters, "after": None, "unread": 0, **fields}


def shown(**fields: Any) -> dict[str, Any]:
    octets = {"text": '{"kind":\n"dance"}', "base64": None}
    whole = {"value": octets, "key": {"text": None, "base64": "/w=="}, "cut": []}
    headers = [{"name": "epoch", "value": {"text": "1", "base64": None}}]
    return letter(**{**whole, "headers": headers, **fields})


def result(number: int, **fields: Any) -> dict[str, Any]:
    return {"number": number, "commandId": f"c{number}", "replayed": False, "error": None, **fields}


def test_list_shows_where_each_stood_and_what_is_wrong(cli: Cli, api: Api) -> None:
    handled = {"how": "dropped", "by": "ada", "at": "2026-03-01T09:30:02.000Z", "note": "n"}
    letters = [letter(), letter(18, copies=3, handled=handled)]
    api.on(f"GET {PATH}", page(*letters, after=18, unread=5))
    result = cli.run("dead-letters", "list", "--all", "--limit", "2")
    head, first, second, *rest = result.stdout.splitlines()
    assert head.split() == ["NUMBER", "FROM", "AGE", "BYTES", "ERROR", "BEGINS"]
    assert first.split()[:4] == ["17", "orchx.commands/2", "at", "1534"]
    assert "malformed" in first
    assert "\x1b" not in result.stdout
    assert "(3 copies)" in second
    assert second.rstrip().endswith("dropped")
    assert rest == [
        "There are more: --after 18 shows them.",
        "5 older records were not looked at.",
    ]
    assert api.asked[0].query == "handled=true&limit=2"
    assert json.loads(cli.run("dead-letters", "list", "--json").stdout)["after"] == 18


def test_list_tells_none_from_none_ever(cli: Cli, api: Api) -> None:
    api.on(f"GET {PATH}", page())
    assert cli.run("dead-letters", "list").stdout == "No dead letters.\n"
    api.on(f"GET {PATH}", page(kept=False))
    assert "There never are any on this server" in cli.run("dead-letters", "list").stdout
    assert json.loads(cli.run("dead-letters", "list", "--json").stdout)["kept"] is False


def test_show_tells_all_and_gives_the_value_to_edit(cli: Cli, api: Api) -> None:
    api.on(f"GET {PATH}/17", shown())
    lines = cli.run("dead-letters", "show", "17").stdout
    for told in ("orchx.commands, partition 2, at 1534", "malformed", "base64 /w==", "epoch: 1"):
        assert told in lines
    assert cli.run("dead-letters", "show", "17", "--value").stdout == '{"kind":\n"dance"}'
    assert json.loads(cli.run("dead-letters", "show", "17", "--json").stdout)["number"] == 17
    api.on(f"GET {PATH}/17", shown(cut=["value"], value={"text": None, "base64": "AP8="}))
    cut = cli.run("dead-letters", "show", "17", "--value")
    assert cut.stdout_bytes == b"\x00\xff"
    assert "too large to be kept whole" in cut.stderr
    assert "cut: value" in cli.run("dead-letters", "show", "17").stdout


def test_replay_says_what_became_of_each(cli: Cli, api: Api) -> None:
    results = [result(1), result(2, replayed=True)]
    api.on(f"POST {PATH}/replay", {"results": results})
    done = cli.run("dead-letters", "replay", "1", "2")
    assert done.stdout.splitlines() == [
        "1  c1 is taken",
        "2  c2 had been taken before: it runs once",
    ]
    assert (done.exit_code, api.asked[0].json) == (0, {"numbers": [1, 2]})
    api.on(f"POST {PATH}/replay", {"results": [*results, result(3, commandId=None, error="why")]})
    partly = cli.run("dead-letters", "replay", "1", "2", "3", "--json")
    assert json.loads(partly.stdout)["results"][2]["error"] == "why"
    assert partly.exit_code == 4
    assert "3  not sent: why" in cli.run("dead-letters", "replay", "3").stdout


def test_replay_takes_a_mended_command(cli: Cli, api: Api, tmp_path: Path) -> None:
    api.on(f"POST {PATH}/replay", {"results": [result(17)]})
    mended = tmp_path / "command.json"
    mended.write_text('{"kind": "cancel"}')
    assert cli.run("dead-letters", "replay", "17", "--file", str(mended)).exit_code == 0
    cli.run("dead-letters", "replay", "17", "--file", "-", input="{}")
    assert [asked.json["value"] for asked in api.asked] == ['{"kind": "cancel"}', "{}"]


def test_all_is_what_is_listed_page_by_page(cli: Cli, api: Api) -> None:
    def pages(asked: Asked) -> Answer:
        after = int(parse_qs(asked.query).get("after", ["-1"])[0])
        first = [letter(number) for number in range(150)]
        later = [letter(150), letter(151, kind="event")]
        found = page(*first, after=149) if after < 0 else page(*later)
        return 200, found, {}

    def replay(asked: Asked) -> Answer:
        return 200, {"results": [result(number) for number in asked.json["numbers"]]}, {}

    def drop(asked: Asked) -> Answer:
        return 200, {"dropped": len(asked.json["numbers"])}, {}

    api.answers.update({f"GET {PATH}": pages, f"POST {PATH}/replay": replay})
    api.answers[f"POST {PATH}/drop"] = drop
    done = json.loads(cli.run("dead-letters", "replay", "--all", "--json").stdout)
    assert [one["number"] for one in done["results"]] == list(range(151))
    dropped = cli.run("dead-letters", "drop", "--all", "--reason", "a test wrote them")
    assert dropped.stdout == "152 dropped\n"
    assert api.asked[-1].json["reason"] == "a test wrote them"
    api.on(f"GET {PATH}", page())
    assert cli.run("dead-letters", "replay", "--all").stdout == "No commands wait here.\n"


def test_dropping_what_is_not_there_fails(cli: Cli, api: Api) -> None:
    api.on(f"POST {PATH}/drop", {"dropped": 1})
    done = cli.run("dead-letters", "drop", "1", "2", "--json")
    assert (json.loads(done.stdout), done.exit_code) == ({"dropped": 1}, 4)


@pytest.mark.parametrize(
    "arguments",
    [
        ("replay",),
        ("drop",),
        ("replay", "1", "--all"),
        ("drop", "1", "--all"),
        ("replay", "1", "2", "--file", "x"),
        ("replay", "--all", "--file", "x"),
        ("replay", "1", "--file", "/nowhere"),
        ("show", "-1"),
    ],
)
def test_wrong_usage_asks_the_server_nothing(cli: Cli, api: Api, arguments: tuple[str]) -> None:
    assert cli.run("dead-letters", *arguments).exit_code == 2
    assert not api.asked
