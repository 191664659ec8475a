"""`orchx up` says where the log lines of its processes are: Ray shows none of them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from orchx.actors.node_labels import Node
from orchx.cli.up import _print_json
from orchx.cli.welcome import next_steps
from orchx.serve.server import Running
from orchx.settings import Settings

RUNNING = Running(
    url="http://127.0.0.1:8600",
    raylet=Path("raylet"),
    logs=Path("/tmp/ray/session_1/logs"),
    pids={"dispatcher": "7"},
    nodes={"dispatcher": Node(id="abc", address="10.0.0.7", labels={})},
    admin_key=None,
    started_s=1.0,
    ray_s=0.5,
)


def test_people_are_told() -> None:
    lines = list(next_steps(Settings(), RUNNING, examples=False))
    assert "Log lines: /tmp/ray/session_1/logs/worker-*.err" in lines


def test_programs_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    _print_json(RUNNING)
    line = json.loads(capsys.readouterr().out)
    assert line["logs"] == "/tmp/ray/session_1/logs"
    assert line.keys() >= {"url", "pid", "pids", "adminKey", "startedS", "rayS"}
