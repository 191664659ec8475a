"""`orchx up` around the server itself: its end, what it says to type, the examples."""

from __future__ import annotations

import os
import re
import shlex
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn

import httpx
import pytest

from orchx.cli import orderly_end, up
from orchx.cli.example_files import SANDBOX_ADDRESS, with_examples
from orchx.cli.failures import UsageError
from orchx.cli.installed import orchx_command
from orchx.cli.up_command import UpOptions
from orchx.cli.welcome import next_steps
from orchx.errors import DriverError
from orchx.serve.server import Running
from orchx.settings import HttpSettings, Settings

RUNNING = Running(
    url="http://127.0.0.1:8600",
    logs=Path("logs"),
    raylet=Path("raylet"),
    pids={},
    nodes={},
    admin_key=None,
    started_s=1.0,
    ray_s=0.5,
)


def options(data_dir: Path, **more: Any) -> UpOptions:
    given: dict[str, Any] = dict.fromkeys(("host", "port", "replicas", "dedicated", "log_level"))
    given |= {"tasks": (), "definitions": (), "services": (), "examples": False, "json": False}
    given |= {"sandbox_port": 8610, "authentication": True, "data_dir": data_dir}
    return UpOptions(**(given | more))


# --- its end -------------------------------------------------------------------------------


@pytest.fixture
def stopped(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Settings]]:
    """What was stopped, of a server that is none; afterwards, handlers are what they were."""
    stopped: list[Settings] = []
    before = {number: signal.getsignal(number) for number in orderly_end.ENDING}
    monkeypatch.setattr(orderly_end, "ray", SimpleNamespace(is_initialized=lambda: True))
    monkeypatch.setattr(orderly_end, "stop_server", stopped.append)
    yield stopped
    for number, handler in before.items():
        signal.signal(number, handler)


def starting(number: int) -> Callable[[Settings], Running]:
    """Return a start in whose middle a signal comes."""

    def start(settings: Settings) -> Running:
        signal.raise_signal(number)
        return RUNNING

    return start


@pytest.mark.parametrize("number", orderly_end.ENDING)
def test_a_signal_during_the_start_stops_what_is_up(
    monkeypatch: pytest.MonkeyPatch, stopped: list[Settings], tmp_path: Path, number: int
) -> None:
    monkeypatch.setattr(up, "start_server", starting(number))
    assert up.run_up(options(tmp_path)) == 128 + number
    assert [settings.data_dir for settings in stopped] == [tmp_path]


def test_a_signal_whose_interrupt_gets_lost_stops_it_too(
    monkeypatch: pytest.MonkeyPatch, stopped: list[Settings], tmp_path: Path
) -> None:
    def start(settings: Settings) -> Running:
        try:
            signal.raise_signal(signal.SIGTERM)
        except KeyboardInterrupt:
            return replace(RUNNING, raylet=raylet)  # as when Python can only print it
        raise AssertionError("no interrupt")

    raylet = tmp_path / "raylet"
    monkeypatch.setattr(up, "start_server", start)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(raylet))
        listening.listen()
        assert up.run_up(options(tmp_path)) == 0
    assert len(stopped) == 1


def test_a_raylet_that_has_died_ends_it(
    monkeypatch: pytest.MonkeyPatch, stopped: list[Settings], tmp_path: Path
) -> None:
    def end_abruptly(error: Exception, *, as_json: bool) -> NoReturn:
        raise error

    monkeypatch.setattr(up, "end_abruptly", end_abruptly)
    monkeypatch.setattr(up, "start_server", lambda _: replace(RUNNING, raylet=tmp_path / "nobody"))
    with pytest.raises(DriverError, match="raylet"):
        up.run_up(options(tmp_path))


def test_a_start_that_fails_stops_what_is_up(
    monkeypatch: pytest.MonkeyPatch, stopped: list[Settings], tmp_path: Path
) -> None:
    def start(settings: Settings) -> Running:
        raise RuntimeError("the replica is not healthy")

    monkeypatch.setattr(up, "start_server", start)
    with pytest.raises(RuntimeError, match="not healthy"):
        up.run_up(options(tmp_path))
    assert len(stopped) == 1


# --- what it says to type ------------------------------------------------------------------


def test_the_next_steps_are_as_few_as_can_be(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("orchx.cli.welcome.orchx_command", lambda: "orchx")
    settings = Settings(data_dir=tmp_path / "my data")
    lines = list(next_steps(settings, RUNNING, examples=False))
    typed = [line.strip() for line in lines if line.startswith("  ")]
    where = shlex.quote(str(tmp_path / "my data"))
    assert typed == [
        f"export ORCHX_API_KEY=$(orchx keys create me --scope admin --data-dir {where})",
        "orchx doctor",
    ]
    open_ = settings.model_copy(update={"http": HttpSettings(authentication="off")})
    assert "  orchx doctor" in next_steps(open_, RUNNING, examples=False)
    assert not any("API_KEY" in line for line in next_steps(open_, RUNNING, examples=False))


def test_the_command_is_a_path_when_path_leads_elsewhere(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    folder = Path(sys.executable).parent
    monkeypatch.setenv("PATH", str(folder))
    assert orchx_command() == "orchx"
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.chdir(folder.parent.parent)
    assert orchx_command() == os.path.join(folder.parent.name, folder.name, "orchx")
    monkeypatch.chdir(tmp_path)
    assert orchx_command() == str(folder / "orchx")


# --- the examples --------------------------------------------------------------------------


def test_the_examples_are_added_with_the_sandboxs_address(tmp_path: Path) -> None:
    given = Settings(data_dir=tmp_path, definitions=(Path("mine"),))
    with with_examples(given, 0) as settings:
        mine, folder = settings.definitions
        assert mine == Path("mine")
        assert len(list(folder.glob("*.yaml"))) == 7
        (services,) = settings.services
        for path in (services, *folder.iterdir()):
            assert SANDBOX_ADDRESS not in path.read_text()
        (url,) = re.findall(r"http://127.0.0.1:\d+(?=/hr)", services.read_text())
        assert httpx.get(f"{url}/hr/openapi.json").status_code == 200


def test_a_port_of_the_sandbox_that_is_taken_is_wrong_usage(tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with (
            pytest.raises(UsageError, match=f"port {port}") as caught,
            with_examples(Settings(data_dir=tmp_path), port),
        ):
            raise AssertionError("it has started")
    assert "--sandbox-port" in caught.value.hint
