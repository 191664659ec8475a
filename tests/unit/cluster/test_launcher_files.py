"""The launcher's files: valid for this Ray, and in step with each other and the settings."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from ray.autoscaler._private.util import prepare_config, validate_config

from orchx.settings import Settings

CLUSTER = Path(__file__).parents[3] / "cluster"
LAUNCHERS = sorted(path.name for path in CLUSTER.glob("*.yaml") if path.name != "compose.yaml")
CLOUDS = [name for name in LAUNCHERS if name != "on-premises.yaml"]


def launcher(name: str) -> dict[str, Any]:
    read: dict[str, Any] = yaml.safe_load((CLUSTER / name).read_text(encoding="utf-8"))
    return read


@pytest.fixture
def settings(monkeypatch: pytest.MonkeyPatch) -> Settings:
    """What the example of the nodes' settings says, as a shell reads it."""
    script = f'set -a; . "{CLUSTER}/node/orchx.env.example"; env -0'
    ran = subprocess.run(["bash", "-eu", "-c", script], capture_output=True, check=True)
    for pair in ran.stdout.decode().split("\0"):
        name, _, value = pair.partition("=")
        if name.startswith("ORCHX_"):
            monkeypatch.setenv(name, value)
    return Settings()


def test_there_are_three() -> None:
    assert LAUNCHERS == ["aws.yaml", "gcp.yaml", "on-premises.yaml"]


@pytest.mark.parametrize("name", LAUNCHERS)
def test_ray_takes_them(name: str) -> None:
    prepared = prepare_config(launcher(name))
    validate_config(prepared)
    assert "docker" not in launcher(name)
    broken = {**prepared, "head_start_commands": []}
    with pytest.raises(Exception, match="head_start_commands"):
        validate_config(broken)


@pytest.mark.parametrize("name", LAUNCHERS)
def test_every_node_gets_the_same_scripts_settings_and_token(name: str) -> None:
    config = launcher(name)
    assert config["file_mounts"] == {
        "~/orchx-node": "node",
        "~/.ray/auth_token": "~/.ray/auth_token",
    }
    commands = [
        *config["setup_commands"],
        *config["head_start_ray_commands"],
        *config["worker_start_ray_commands"],
    ]
    for command in commands:
        [path] = [word for word in command.split() if "/" in word]
        script = CLUSTER / "node" / path.removeprefix("~/orchx-node/")
        assert os.access(script, os.X_OK), command
        subprocess.run(["bash", "-n", str(script)], check=True)


@pytest.mark.parametrize("name", CLOUDS)
def test_there_are_as_many_labelled_nodes_as_a_start_waits_for(
    name: str, settings: Settings
) -> None:
    types = launcher(name)["available_node_types"]
    asked = (
        (settings.cluster.owner_labels, settings.cluster.owner_nodes),
        (settings.cluster.pool_labels, settings.cluster.pool_nodes),
    )
    for labels, count in asked:
        assert labels
        having = [node_type for node_type in types.values() if node_type["labels"] == labels]
        assert sum(node_type["min_workers"] for node_type in having) >= count


@pytest.mark.parametrize(
    ("name", "how"),
    [("aws.yaml", "InstanceMarketOptions"), ("gcp.yaml", "scheduling")],
)
def test_only_the_pools_nodes_may_be_taken_away(name: str, how: str, settings: Settings) -> None:
    types = launcher(name)["available_node_types"]
    spot = [t["labels"] for t in types.values() if how in t["node_config"]]
    assert spot == [settings.cluster.pool_labels]
    assert launcher(name)["head_node_type"] == "head"


def test_the_settings_of_the_nodes_are_those_of_a_cluster(settings: Settings) -> None:
    assert settings.profile == "kafka"
    assert settings.pools.io_actors >= settings.cluster.pool_nodes
    assert settings.http.authentication == "required"


def test_the_labels_of_the_scripts_are_those_of_the_settings(settings: Settings) -> None:
    start = (CLUSTER / "node" / "start.sh").read_text(encoding="utf-8")
    [(key, value)] = settings.cluster.owner_labels.items()
    assert f"echo {key}={value}" in start
    [(key, value)] = settings.cluster.pool_labels.items()
    assert f"echo {key}={value} > ~/orchx-labels" in (CLUSTER / "on-premises.yaml").read_text()


def test_what_holds_passwords_is_not_committed() -> None:
    ignored = subprocess.run(
        ["git", "check-ignore", "cluster/node/orchx.env"],
        cwd=CLUSTER.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ignored.stdout.strip() == "cluster/node/orchx.env"
