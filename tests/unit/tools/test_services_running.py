import os
import signal
from pathlib import Path

import pytest

from tests.unit.tools.fake_server import FakeServer
from tools.services import running as running_module
from tools.services.mongodb_server import MongodbServer
from tools.services.ports import DEVELOPMENT
from tools.services.processes import Process, is_alive, read_pid_file
from tools.services.redis_server import RedisServer
from tools.services.running import log_of, pid_file_of, running, servers_at, start_all
from tools.services.server import Server

ENDS = ("/bin/sh", "-c", "echo cannot listen; exit 1")
NEVER_READY = ("/bin/sh", "-c", "echo still thinking; exec tail -f /dev/null")


@pytest.fixture
def fakes(monkeypatch: pytest.MonkeyPatch) -> list[FakeServer]:
    """Three servers that take the place of the real ones."""
    servers = [FakeServer(name=name) for name in ("kafka", "mongodb", "redis")]
    monkeypatch.setattr(running_module, "servers_at", lambda ports: servers)
    return servers


def test_the_three_servers_are_named_by_the_tests_variables() -> None:
    addresses = {server.variable: server.address for server in servers_at(DEVELOPMENT)}

    assert addresses == {
        "ORCHX_TEST_KAFKA": "127.0.0.1:19092",
        "ORCHX_TEST_MONGODB": "mongodb://127.0.0.1:17017/?replicaSet=orchx",
        "ORCHX_TEST_REDIS": "redis://127.0.0.1:16379/0",
    }


@pytest.mark.parametrize(
    ("server", "option"),
    [(RedisServer(port=4711), "--bind"), (MongodbServer(port=4711), "--bind_ip")],
)
def test_servers_on_path_are_preferred_and_listen_on_loopback_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, server: Server, option: str
) -> None:
    for name, says in (
        ("redis-server", "Redis server v=7.0.15 sha=0"),
        ("mongod", "db version v8"),
    ):
        (tmp_path / name).write_text(f"#!/bin/sh\necho '{says}'\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))

    launch = server.prepare(tmp_path)

    assert launch.description in ("Redis 7.0.15", "MongoDB 8")
    assert Path(launch.command[0]).parent == tmp_path
    assert launch.command[launch.command.index(option) + 1] == "127.0.0.1"
    assert launch.command[launch.command.index("--port") + 1] == "4711"


def test_all_run_for_the_block_and_not_longer(tmp_path: Path, fakes: list[FakeServer]) -> None:
    with running(tmp_path) as outcome:
        processes = [each.process for each in outcome.running]
        assert {each.server.name for each in outcome.running} == {"kafka", "mongodb", "redis"}
        assert all(map(is_alive, processes))
        assert not outcome.missing
        assert not outcome.deaths()
        assert outcome.addresses()["ORCHX_TEST_REDIS"] == "127.0.0.1:1"

    assert not any(map(is_alive, processes))


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, AssertionError])
def test_they_end_however_the_block_ends(
    tmp_path: Path, fakes: list[FakeServer], error: type[BaseException]
) -> None:
    processes: list[Process] = []

    def run() -> None:
        with running(tmp_path) as outcome:
            processes.extend(each.process for each in outcome.running)
            raise error

    with pytest.raises(error):
        run()

    assert len(processes) == 3
    assert not any(map(is_alive, processes))


def test_only_those_wanted_are_prepared(tmp_path: Path, fakes: list[FakeServer]) -> None:
    with running(tmp_path, wanted=lambda server: server.name == "redis") as outcome:
        assert list(outcome.addresses()) == ["ORCHX_TEST_REDIS", "ORCHX_TEST_REDIS_IS"]

    assert [len(fake.prepared) for fake in fakes] == [0, 0, 1]


def test_one_that_cannot_be_had_does_not_keep_the_others_from_running(
    tmp_path: Path, fakes: list[FakeServer]
) -> None:
    fakes[1].unobtainable = "no wheel for this machine"

    with running(tmp_path) as outcome:
        assert [str(each) for each in outcome.missing] == [
            "mongodb is missing: no wheel for this machine"
        ]
        told = outcome.addresses()
        assert {"ORCHX_TEST_KAFKA", "ORCHX_TEST_REDIS"} < told.keys()
        assert "ORCHX_TEST_MONGODB" not in told


def test_one_that_ends_at_once_is_told_with_its_last_words(
    tmp_path: Path, fakes: list[FakeServer]
) -> None:
    fakes[2].script = ENDS

    with running(tmp_path) as outcome:
        [missing] = outcome.missing

        assert str(missing) == "redis is missing: it ended at its start: cannot listen"


def test_one_that_never_answers_is_ended(
    tmp_path: Path, fakes: list[FakeServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(running_module, "READY_TIMEOUT_S", 0.3)
    fakes[0].script = NEVER_READY

    outcome = start_all(fakes[:1], tmp_path, dies_with_parent=True)

    assert [each.reason for each in outcome.missing] == ["no answer within 0 s: still thinking"]
    assert read_pid_file(pid_file_of(fakes[0], tmp_path)) is None


def test_one_whose_program_is_not_there_is_told(tmp_path: Path) -> None:
    server = FakeServer(script=(str(tmp_path / "no-such-program"),))

    outcome = start_all([server], tmp_path, dies_with_parent=False)

    assert "no-such-program" in outcome.missing[0].reason


def test_those_started_are_ended_when_the_start_is_interrupted(
    tmp_path: Path, fakes: list[FakeServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(running_module, "_conclude", interrupt)

    with pytest.raises(KeyboardInterrupt):
        start_all(fakes, tmp_path, dies_with_parent=True)

    assert all(pid_file_of(fake, tmp_path).exists() for fake in fakes)
    assert not any(read_pid_file(pid_file_of(fake, tmp_path)) for fake in fakes)


def test_one_that_ends_during_the_block_is_told(tmp_path: Path, fakes: list[FakeServer]) -> None:
    with running(tmp_path) as outcome:
        [redis] = [each for each in outcome.running if each.server.name == "redis"]
        log_of(redis.server, tmp_path).write_text("out of memory\n")
        os.kill(redis.process.pid, signal.SIGKILL)
        os.waitid(os.P_PID, redis.process.pid, os.WEXITED)

        assert outcome.deaths() == ["Fake redis ended by itself: out of memory"]
