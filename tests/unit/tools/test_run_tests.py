from collections import Counter
from pathlib import Path

import pytest

from tools import run_tests
from tools.run_tests import Layer, count_outcomes, main, summary_line

REPORT = """<testsuites><testsuite>
  <testcase name="a"/>
  <testcase name="b"><failure message="no"/></testcase>
  <testcase name="c"><skipped type="pytest.skip"/></testcase>
  <testcase name="d"><skipped type="pytest.xfail"/></testcase>
  <testcase name="e"><error message="teardown"/></testcase>
</testsuite></testsuites>"""


@pytest.fixture
def tests(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project of its own with the layers `unit` and `e2e`, both serial."""
    layers = tuple(Layer(name=name, folders=(name,), is_parallel=False) for name in ("unit", "e2e"))
    monkeypatch.setattr(run_tests, "ROOT", tmp_path)
    monkeypatch.setattr(run_tests, "TESTS", tmp_path / "tests")
    monkeypatch.setattr(run_tests, "LAYERS", layers)
    (tmp_path / "pytest.ini").write_text(
        "[pytest]\nasyncio_default_fixture_loop_scope = function\n"
    )
    for layer in layers:
        (tmp_path / "tests" / layer.name).mkdir(parents=True)
    return tmp_path / "tests"


def test_outcomes_are_counted_from_the_report(tmp_path: Path) -> None:
    report = tmp_path / "report.xml"
    report.write_text(REPORT)

    counts = count_outcomes(report)

    assert counts == {"passed": 1, "failed": 1, "skipped": 1, "xfailed": 1, "errors": 1}


def test_the_summary_reads_like_pytests() -> None:
    line = summary_line(Counter(passed=12, failed=1, errors=1), 3.5)

    assert line.strip("=") == " 1 failed, 12 passed, 1 error in 3.50s "


def test_a_failure_in_an_early_layer_is_kept_and_later_layers_still_run(
    tests: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tests / "unit" / "test_a.py").write_text("def test_a(): assert False\n")
    (tests / "e2e" / "test_b.py").write_text("def test_b(): pass\n")

    assert main([]) == 1

    last_lines = capfd.readouterr().out.splitlines()[-2:]
    assert last_lines[0] == "failed in: unit"
    assert " 1 failed, 1 passed in " in last_lines[1]


def test_a_layer_that_breaks_down_fails_the_run(
    tests: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tests / "unit" / "test_a.py").write_text("import os\ndef test_a(): os._exit(0)\n")
    (tests / "e2e" / "test_b.py").write_text("def test_b(): pass\n")

    assert main([]) == 1

    assert " 1 passed, 1 error in " in capfd.readouterr().out.splitlines()[-1]


def test_running_no_test_at_all_is_a_failure(tests: Path) -> None:
    assert main([]) == 1
