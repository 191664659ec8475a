"""What can be told of the files for Docker without Docker."""

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml

from orchx.settings import Settings
from tools.services.apache_kafka import POM, kafka_version

CLUSTER = Path(__file__).resolve().parents[3] / "cluster"
DOCKERFILE = (CLUSTER / "Dockerfile").read_text().replace("\\\n", " ")


@pytest.fixture
def compose() -> dict[str, Any]:
    text: dict[str, Any] = yaml.safe_load((CLUSTER / "compose.yaml").read_text())
    return text


def instructions(name: str) -> list[str]:
    return re.findall(rf"^{name} +(.+)$", DOCKERFILE, re.MULTILINE)


def test_orchx_is_told_where_the_servers_are_in_settings_that_it_takes(
    compose: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in compose["services"]["orchx"]["environment"].items():
        monkeypatch.setenv(name, value)

    settings = Settings()

    assert settings.profile == "kafka"
    addresses = (
        *settings.kafka.bootstrap_servers,
        settings.redis.url.get_secret_value(),
        settings.mongodb.uri.get_secret_value(),
    )
    hosts = [re.sub(r"^\w+://|[:/].*", "", re.sub(r"^\w+://", "", each)) for each in addresses]
    assert sorted(hosts) == sorted(set(compose["services"]) - {"orchx"})


def test_orchx_waits_until_every_server_is_healthy(compose: dict[str, Any]) -> None:
    services = compose["services"]
    waits = services["orchx"]["depends_on"]

    assert set(waits) == set(services) - {"orchx"}
    assert all(each == {"condition": "service_healthy"} for each in waits.values())
    assert all("healthcheck" in services[name] for name in waits)


def test_only_orchx_is_published_and_on_loopback(compose: dict[str, Any]) -> None:
    published = {name: each.get("ports", []) for name, each in compose["services"].items()}

    assert published.pop("orchx") == ["127.0.0.1:8600:8600"]
    assert not any(published.values())


def test_what_a_server_keeps_is_in_a_volume(compose: dict[str, Any]) -> None:
    mounted = {
        mount.partition(":")[0]
        for service in compose["services"].values()
        for mount in service["volumes"]
    }

    assert mounted == set(compose["volumes"])


def test_kafka_is_the_version_that_the_tests_run_against(compose: dict[str, Any]) -> None:
    image = compose["services"]["kafka"]["image"]

    assert image == f"apache/kafka:{kafka_version(POM.read_text())}"


def test_the_images_process_1_reaps_and_nothing_runs_as_root() -> None:
    assert instructions("ENTRYPOINT") == ['["tini", "--", "orchx"]']
    assert instructions("USER") == ["10001:10001"]
    assert [each for each in instructions("FROM") if not each.startswith("python:3.11-slim")] == []


def test_the_image_is_made_of_files_that_there_are_and_that_are_sent() -> None:
    sources = [word for line in instructions("COPY") for word in shlex.split(line)[:-1]]
    sent = {
        line.removeprefix("!")
        for line in (CLUSTER / "Dockerfile.dockerignore").read_text().splitlines()
        if line.startswith("!")
    }

    assert set(sources) == sent
    assert all((CLUSTER.parent / source).exists() for source in sources)


def test_the_images_environment_is_settings_that_orchx_takes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    [line] = instructions("ENV")
    for pair in shlex.split(line):
        name, _, value = pair.partition("=")
        if name.startswith("ORCHX_"):
            monkeypatch.setenv(name, value)

    settings = Settings()

    assert (settings.http.host, settings.http.port) == ("0.0.0.0", 8600)  # noqa: S104  in a container
