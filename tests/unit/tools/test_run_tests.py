from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.unit.tools.fake_server import FakeServer
from tools import run_tests
from tools.run_tests import Layer, count_outcomes, main, summary_line
from tools.services.processes import Process
from tools.services.running import Missing, Outcome, Running
from tools.services.server import Server

REPORT = """<testsuites><testsuite>
  <testcase name="a"/>
  <testcase name="b"><failure message="no"/></testcase>
  <testcase name="c"><skipped type="pytest.skip"/></testcase>
  <testcase name="d"><skipped type="pytest.xfail"/></testcase>
  <testcase name="e"><error message="teardown"/></testcase>
</testsuite></testsuites>"""


@dataclass(kw_only=True)
class Servers:
    """Takes the place of `running`: says that servers run, and starts none."""

    missing: dict[str, str] = field(default_factory=dict)
    runs: list[list[str]] = field(default_factory=list)
    is_over: bool = False

    @contextmanager
    def __call__(self, folder: Path, *, wanted: Callable[[Server], bool]) -> Iterator[Outcome]:
        assert folder.is_dir()
        fakes = [FakeServer(name=name) for name in ("kafka", "mongodb", "redis")]
        servers = [fake for fake in fakes if wanted(fake)]
        self.runs.append([server.name for server in servers])
        nobody = Process(pid=0, start_ticks=0, boot_id="")
        outcome = Outcome()
        for server in servers:
            if server.name in self.missing:
                outcome.missing.append(Missing(server=server, reason=self.missing[server.name]))
            else:
                log = folder / "log"
                log.write_text("out of memory\n")
                name = f"Fake {server.name}"
                outcome.running.append(
                    Running(server=server, description=name, process=nobody, log=log)
                )
        try:
            yield outcome
        finally:
            self.is_over = True


@pytest.fixture
def servers(monkeypatch: pytest.MonkeyPatch) -> Servers:
    """No servers are started, and the environment names none and no CI."""
    for name in ("CI", "ORCHX_TEST_KAFKA", "ORCHX_TEST_MONGODB", "ORCHX_TEST_REDIS"):
        monkeypatch.delenv(name, raising=False)
    fake = Servers()
    monkeypatch.setattr(run_tests, "running", fake)
    return fake


@pytest.fixture
def tests(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, servers: Servers) -> Path:
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


def test_running_no_test_at_all_is_a_failure(tests: Path, servers: Servers) -> None:
    assert main([]) == 1

    assert servers.runs == []


def test_the_tests_are_told_where_the_servers_are(tests: Path, servers: Servers) -> None:
    (tests / "unit" / "test_a.py").write_text(
        "import os\ndef test_a(): assert os.environ['ORCHX_TEST_REDIS'] == '127.0.0.1:1'\n"
    )

    assert main([]) == 0

    assert servers.is_over


@dataclass(kw_only=True)
class Layers:
    """Takes the place of `run_layer`: runs nothing, and says that it ended with `status`."""

    status: int = 0
    environments: list[Mapping[str, str]] = field(default_factory=list)

    def __call__(
        self, layer: Layer, folders: list[Path], arguments: list[str], environ: Mapping[str, str]
    ) -> tuple[int, Counter[str]]:
        self.environments.append(environ)
        return self.status, Counter(passed=1)


@pytest.fixture
def layers(tests: Path, monkeypatch: pytest.MonkeyPatch) -> Layers:
    """One layer with a test, which is not really run."""
    (tests / "unit" / "test_a.py").touch()
    fake = Layers()
    monkeypatch.setattr(run_tests, "run_layer", fake)
    return fake


def test_it_is_said_which_servers_run(
    layers: Layers, servers: Servers, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main([]) == 0

    assert "servers: Fake kafka at 127.0.0.1:1 (pid 0)" in capfd.readouterr().out


def test_servers_that_the_environment_names_are_used_as_they_are(
    layers: Layers, servers: Servers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ORCHX_TEST_REDIS", "redis://127.0.0.1:6379/9")

    assert main([]) == 0

    assert servers.runs == [["kafka", "mongodb"]]
    assert layers.environments[0]["ORCHX_TEST_REDIS"] == "redis://127.0.0.1:6379/9"


def test_the_servers_are_stopped_after_a_failure(layers: Layers, servers: Servers) -> None:
    layers.status = 1

    assert main([]) == 1

    assert servers.is_over


def test_a_missing_server_is_told_and_the_tests_run(
    layers: Layers, servers: Servers, capfd: pytest.CaptureFixture[str]
) -> None:
    servers.missing["redis"] = "no wheel for this machine"

    assert main([]) == 0

    told = "servers: redis is missing: no wheel for this machine; tests that need it skip"
    assert told in capfd.readouterr().out.splitlines()
    assert "ORCHX_TEST_REDIS" not in layers.environments[0]


def test_under_continuous_integration_a_missing_server_is_a_failure_and_nothing_runs(
    layers: Layers,
    servers: Servers,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("CI", "true")
    servers.missing["redis"] = "no wheel for this machine"

    assert main([]) == 1

    lines = capfd.readouterr().out.splitlines()
    assert "servers: redis is missing: no wheel for this machine; CI needs it" in lines
    assert lines[-2] == "failed in: servers"
    assert " 1 error in " in lines[-1]
    assert layers.environments == []
    assert servers.is_over


def test_a_server_that_ended_during_the_tests_is_told(
    layers: Layers, servers: Servers, capfd: pytest.CaptureFixture[str]
) -> None:
    main([])

    # The fakes' process is none that lives.
    assert "servers: Fake redis ended by itself: out of memory" in capfd.readouterr().out


def test_a_layer_says_how_its_tests_share_the_cores() -> None:
    alone = Layer(name="e2e", folders=("e2e",), is_parallel=False)
    files = Layer(name="servers", folders=("integration",), is_parallel=True, whole_files=True)

    assert alone.options == ("-n", "0")
    assert files.options == ("-n", "auto", "--dist", "loadfile")
