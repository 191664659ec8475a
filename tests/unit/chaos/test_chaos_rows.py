import json
from pathlib import Path

import pytest

from tests.chaos import report
from tests.chaos.__main__ import main
from tests.chaos.judge import Verdict
from tests.chaos.load import Acceptance
from tests.chaos.row_run import Result, _complaints
from tests.chaos.rows import ROWS, Row

BY_FIREWALL_TOO = (
    *("broker, one of three", "broker, all", "Redis", "MongoDB primary"),
    *("Dispatcher", "WorkflowActor", "pool worker", "projector", "ingestion replica"),
)


def a_result(
    row: Row,
    *,
    verdict: Verdict | None = None,
    wrong: dict[str, int] | None = None,
    refusal_s: float = 1.0,
    recovered_s: float | None = 2.0,
    never: int = 0,
) -> Result:
    return Result(
        row=row.name,
        held_s=15,
        acceptance=Acceptance(
            requests=10,
            refused_then_accepted=1,
            never_accepted=never,
            longest_refusal_s=refusal_s,
            refusals={},
            wrong_answers=wrong or {},
            reasons={},
        ),
        usual_behind=2.5,
        cores={"engine": 0.75, "node-1": 0.0},
        most_behind=70,
        recovered_s=recovered_s,
        verdict=verdict or Verdict(),
    )


def test_every_row_has_a_name_of_its_own() -> None:
    assert len({row.name for row in ROWS}) == len(ROWS)


def test_each_target_of_the_issue_is_killed_stopped_and_cut_off() -> None:
    names = {row.name for row in ROWS}

    for target in BY_FIREWALL_TOO:
        assert {f"{target}: {how}" for how in ("kill -9", "stop, continue", "cut off")} <= names


def test_a_row_where_all_is_well_has_nothing_to_complain_of() -> None:
    row = ROWS[0]

    assert _complaints(row, a_result(row)) == []


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"verdict": Verdict(lost=1)}, "lost 1"),
        ({"verdict": Verdict(doubled=2)}, "doubled 2"),
        ({"verdict": Verdict(stuck=3)}, "stuck 3"),
        ({"verdict": Verdict(findings=["Redis knows nothing"])}, "Redis knows nothing"),
        ({"wrong": {"500": 4}}, "answers that tell a client to give up: {'500': 4}"),
        ({"refusal_s": 45.1}, "refused for 45.1 s"),
        ({"recovered_s": None}, "the backlog did not go away"),
        ({"recovered_s": 60.5}, "took 60.5 s to recover"),
        ({"never": 1}, "never accepted 1"),
    ],
)
def test_what_is_not_well_is_told(changes: dict[str, object], complaint: str) -> None:
    row = ROWS[0]

    assert _complaints(row, a_result(row, **changes)) == [complaint]  # type: ignore[arg-type]


def test_the_table_keeps_what_other_runs_have_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(report, "RESULTS", tmp_path / "chaos.json")
    monkeypatch.setattr(report, "TABLE", tmp_path / "chaos.md")
    first = a_result(ROWS[0], verdict=Verdict(statuses={"completed": 10}))
    second = a_result(ROWS[1], recovered_s=None)
    second.complaints.append("it broke | badly")

    report.record([second], servers="Kafka 4", hold_s=15, rate_per_s=50)
    report.record([first], servers="Kafka 4", hold_s=15, rate_per_s=50)

    text = (tmp_path / "chaos.md").read_text()
    rows = [line for line in text.splitlines() if ROWS[0].name in line or ROWS[1].name in line]
    kept = json.loads((tmp_path / "chaos.json").read_text())[ROWS[0].name]
    assert kept["verdict"]["statuses"] == {"completed": 10}
    assert rows == [
        f"| {ROWS[0].name} | 10 | 1 | 1.0 | 2 / 70 | 2.0 | 0 | 0 | 0 | passed |",
        f"| {ROWS[1].name} | 10 | 1 | 1.0 | 2 / 70 | never | 0 | 0 | 0 |"
        " **failed**: it broke / badly |",
    ]
    assert "where nothing happens, by machine: engine 0.75.\n" in text
    assert f"Not run: {ROWS[2].name}," in text


def test_rows_are_listed_and_an_unknown_one_is_refused(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["--list", "--rows", "redis*"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "Redis: kill -9",
        "Redis: stop, continue",
        "Redis: cut off",
    ]
    assert main(["--rows", "no such thing"]) == 2
    assert "no row is like" in capsys.readouterr().err
