import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.tools.fake_server import FakeServer
from tools.services.__main__ import down, main, status, up
from tools.services.ports import HOST
from tools.services.processes import is_alive, read_pid_file, start, stop
from tools.services.running import pid_file_of


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "services"


@pytest.fixture
def servers(folder: Path) -> Iterator[list[FakeServer]]:
    """Two servers, which are ended after the test."""
    both = [FakeServer(name="mongodb"), FakeServer(name="redis")]
    yield both
    down(both, folder)


def test_up_starts_all_once_and_says_where_they_are(
    servers: list[FakeServer], folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert up(servers, folder) == 0
    first = [read_pid_file(pid_file_of(server, folder)) for server in servers]
    capsys.readouterr()

    assert up(servers, folder) == 0

    assert [read_pid_file(pid_file_of(server, folder)) for server in servers] == first
    assert [len(server.prepared) for server in servers] == [1, 1]
    assert "redis is running at 127.0.0.1:1 (pid " in capsys.readouterr().out
    lines = (folder / "env").read_text().splitlines()
    assert lines == ["ORCHX_TEST_MONGODB=127.0.0.1:1", "ORCHX_TEST_REDIS=127.0.0.1:1"]


def test_up_starts_the_one_that_is_not_there(servers: list[FakeServer], folder: Path) -> None:
    up(servers, folder)
    redis = read_pid_file(pid_file_of(servers[1], folder))
    assert redis is not None
    stop([redis])

    assert up(servers, folder) == 0

    assert [len(server.prepared) for server in servers] == [1, 2]


def test_a_port_that_another_program_has_is_told_and_left_alone(
    servers: list[FakeServer], folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.socket() as other:
        other.bind((HOST, 0))
        other.listen()
        servers[1].port = other.getsockname()[1]

        assert up(servers, folder) == 1

    assert f"something else listens at port {servers[1].port}" in capsys.readouterr().out
    assert servers[1].prepared == []
    assert (folder / "env").read_text() == "ORCHX_TEST_MONGODB=127.0.0.1:1\n"


def test_up_fails_when_a_server_cannot_be_had(
    servers: list[FakeServer], folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    servers[0].unobtainable = "no wheel for this machine"

    assert up(servers, folder) == 1

    assert "services: mongodb is missing: no wheel for this machine" in capsys.readouterr().out


def test_an_address_is_quoted_for_the_shell(servers: list[FakeServer], folder: Path) -> None:
    class Awkward(FakeServer):
        @property
        def address(self) -> str:
            return "mongodb://127.0.0.1/?a=b&c=d"

    server = Awkward(name="mongodb")
    up([server], folder)

    text = (folder / "env").read_text()
    down([server], folder)

    assert text == "ORCHX_TEST_MONGODB='mongodb://127.0.0.1/?a=b&c=d'\n"


def test_status_tells_each_state(
    servers: list[FakeServer], folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert status(servers, folder) == 1
    assert "redis is not running" in capsys.readouterr().out

    up(servers, folder)
    assert status(servers, folder) == 0
    assert "redis answers at 127.0.0.1:1 (pid " in capsys.readouterr().out

    (folder / "redis" / "ready").unlink()
    assert status(servers, folder) == 1
    assert "but does not answer: see " in capsys.readouterr().out


def test_down_ends_what_up_started_and_nothing_else(
    servers: list[FakeServer], folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = start(servers[0].script, log=tmp_path / "log", dies_with_parent=False)
    up(servers, folder)
    ours = [read_pid_file(pid_file_of(server, folder)) for server in servers]

    assert down(servers, folder) == 0

    assert not any(process and is_alive(process) for process in ours)
    assert is_alive(other)
    assert sorted(path.name for path in folder.iterdir()) == [
        "mongodb",
        "mongodb.log",
        "redis",
        "redis.log",
    ]
    stop([other])

    down(servers, folder)
    assert capsys.readouterr().out.splitlines()[-1] == "services: none is running"


def test_another_command_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["restart"])

    assert "invalid choice: 'restart'" in capsys.readouterr().err
