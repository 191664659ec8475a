"""Each check of `orchx doctor`, and the command around them."""

from __future__ import annotations

import json
import socket
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from orchx.cli import doctor_checks as checks
from orchx.ports.inspection import Finding
from tests.unit.cli.conftest import Api, Cli

GIB = 1024**3


def test_a_healthy_machine(cli: Cli, api: Api, tmp_path: Path) -> None:
    api.on("GET /readyz", {"ready": True, "parts": {"queue": "ok"}})
    result = cli.run("doctor", "--data-dir", str(tmp_path / "new"))
    assert result.exit_code == 0, result.stdout
    lines = result.stdout.splitlines()
    assert lines[0].split()[:3] == ["✔", "ok", "python"]  # how wide depends on the others
    assert any(f"{api.url} is ready" in line for line in lines)
    assert "0 failures" in lines[-1]
    assert not (tmp_path / "new").exists(), "a doctor looks, and leaves nothing behind"
    printed = json.loads(cli.run("doctor", "--data-dir", str(tmp_path), "--json").stdout)
    assert printed["ok"] is True
    assert {check["level"] for check in printed["checks"]} <= {"ok", "warn"}


def test_a_server_that_is_not_ready_fails(cli: Cli, api: Api, tmp_path: Path) -> None:
    api.on("GET /readyz", {"parts": {"queue": "ok", "owners": "starting"}}, 503)
    result = cli.run("doctor", "--data-dir", str(tmp_path))
    assert result.exit_code == 1
    assert "is not ready (owners: starting)" in result.stdout


def test_the_servers_of_the_profile_are_looked_at(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mute: str
) -> None:
    for name, value in {
        "ORCHX_PROFILE": "kafka",
        "ORCHX_KAFKA__BOOTSTRAP_SERVERS": f'["{mute}"]',
        "ORCHX_KAFKA__REQUEST_TIMEOUT_MS": "1000",
        "ORCHX_MONGODB__URI": f"mongodb://{mute}/?replicaSet=orchx",
        "ORCHX_MONGODB__TIMEOUT_MS": "500",
        "ORCHX_REDIS__URL": f"redis://:hidden-one@{mute}/0",
        "ORCHX_REDIS__TIMEOUT_MS": "50",
    }.items():
        monkeypatch.setenv(name, value)
    result = cli.run("doctor", "--data-dir", str(tmp_path), "--json")
    assert result.exit_code == 1
    found = {check["check"]: check for check in json.loads(result.stdout)["checks"]}
    for check, setting in (
        ("kafka", "ORCHX_KAFKA__BOOTSTRAP_SERVERS"),
        ("mongodb", "ORCHX_MONGODB__URI"),
        ("redis", "ORCHX_REDIS__URL"),
    ):
        assert found[check]["level"] == "fail"
        assert setting in found[check]["detail"] + found[check]["advice"]
    assert "hidden-one" not in result.stdout


def test_wrong_settings_are_wrong_usage(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ORCHX_KAFKA__MIN_INSYNC_REPLICAS", "2")
    result = cli.run("doctor", "--data-dir", str(tmp_path))
    assert result.exit_code == 2
    assert "ORCHX_KAFKA__REPLICATION_FACTOR (1)" in result.stderr


@pytest.mark.parametrize("url", ["http://127.0.0.1:86000", "127.0.0.1:8600", "http://[:1"])
def test_a_wrong_url_is_wrong_usage(cli: Cli, tmp_path: Path, url: str) -> None:
    result = cli.run("doctor", "--data-dir", str(tmp_path), "--url", url)
    assert result.exit_code == 2
    assert result.stderr.startswith(f"error: {url}: is no address of a server\n")
    assert "ORCHX_URL" in result.stderr


def test_a_port_that_something_else_has(cli: Cli, tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        port = other.getsockname()[1]
        finding = checks.check_port(f"http://127.0.0.1:{port}", serving=False)
    assert (finding.level, finding.check) == ("fail", "port")
    assert "--port 0" in finding.advice
    assert checks.check_port("http://elsewhere", serving=False).level == "ok"


@pytest.mark.parametrize(
    ("finding", "level"),
    [
        (checks.check_python((3, 10, 4)), "fail"),
        (checks.check_python((3, 12, 0)), "ok"),
        (checks.check_disk(Path("/x"), GIB // 4), "fail"),
        (checks.check_disk(Path("/x"), 2 * GIB), "warn"),
        (checks.check_disk(Path("/x"), 20 * GIB), "ok"),
        (checks.check_open_files(1024), "warn"),
        (checks.check_open_files(-1), "ok"),
        (checks.check_wrk(None), "warn"),
        (checks.check_shared_memory(Path("/nowhere")), "ok"),
        (checks.check_data_directory(Path("/proc/1/orchx")), "fail"),
    ],
)
def test_levels(finding: Finding, level: str) -> None:
    assert finding.level == level
    assert bool(finding.advice) == (level != "ok"), "what is not ok comes with advice"


def test_haproxy_is_looked_for() -> None:
    def missing() -> str:
        raise FileNotFoundError("no haproxy")

    assert checks.check_haproxy(missing).level == "fail"
    assert checks.check_haproxy(lambda: "/bin/sh").level == "ok"


@pytest.mark.parametrize(("kind", "level"), [("ext4", "ok"), ("tmpfs", "warn"), ("nfs4", "fail")])
def test_the_file_system_matters(tmp_path: Path, kind: str, level: str) -> None:
    mounts = tmp_path / "mounts"
    mounts.write_text(
        f"root / overlay rw 0 0\nx {tmp_path} {kind} rw 0 0\nx {tmp_path}er nfs 0 0\n"
    )
    assert checks.check_filesystem(tmp_path, mounts).level == level
    assert checks.filesystem_of(Path("/"), mounts) == "overlay"
    assert checks.filesystem_of(tmp_path, tmp_path / "none") == ""


def test_clocks_are_compared() -> None:
    now = datetime(2026, 3, 1, tzinfo=UTC)
    assert checks.check_clock(now, now + timedelta(seconds=0.9)).level == "ok"
    assert checks.check_clock(now, now + timedelta(seconds=9)).level == "warn"
    assert checks.check_clock(None, now).level == "ok"
