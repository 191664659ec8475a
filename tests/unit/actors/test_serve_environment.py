"""What Serve reads from the environment: set once, and not handed on to other servers."""

from __future__ import annotations

import os

import pytest

from orchx.actors.cluster import (
    HAPROXY_LAUNCHER,
    LAUNCHER_HOST,
    SERVE_PORTS,
    SERVED_BY_SERVE,
    SET_HERE,
    prepare_environment,
    set_launcher_host,
)

BINARY = "RAY_SERVE_HAPROXY_BINARY_PATH"


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """An environment of the test's own, in which nothing is set yet."""
    for key in [key for key in os.environ if key.startswith(("RAY_SERVE_", "ORCHX_LAUNCHER_"))]:
        monkeypatch.delenv(key)
    kept = dict(os.environ)
    monkeypatch.setattr(os, "environ", kept)
    return monkeypatch


def ports() -> list[str]:
    return [os.environ[key] for key in SERVE_PORTS]


def test_it_is_set_once() -> None:
    prepare_environment()
    first = dict(os.environ)
    assert os.environ[BINARY] == str(HAPROXY_LAUNCHER)
    prepare_environment()
    assert dict(os.environ) == first


def test_a_child_takes_ports_and_a_launcher_of_its_own() -> None:
    prepare_environment()
    parents = ports()
    os.environ[SET_HERE] = os.environ[SET_HERE].replace(str(os.getpid()), "1", 1)
    del os.environ["ORCHX_LAUNCHER_HAPROXY"]
    prepare_environment()
    assert not set(parents) & set(ports())
    assert os.environ["ORCHX_LAUNCHER_HAPROXY"]


def test_what_the_user_has_set_stays() -> None:
    os.environ[BINARY] = "/opt/haproxy"
    os.environ[SERVE_PORTS[0]] = "7001"
    prepare_environment()
    os.environ[SET_HERE] = os.environ[SET_HERE].replace(str(os.getpid()), "1", 1)
    prepare_environment()
    assert (os.environ[BINARY], os.environ[SERVE_PORTS[0]]) == ("/opt/haproxy", "7001")
    assert "ORCHX_LAUNCHER_HAPROXY" not in os.environ


@pytest.mark.parametrize("host", SERVED_BY_SERVE)
def test_where_serve_can_listen_it_does(host: str) -> None:
    prepare_environment()
    set_launcher_host("192.0.2.7")
    set_launcher_host(host)
    assert LAUNCHER_HOST not in os.environ


def test_at_any_other_address_our_launcher_listens_and_nobody_elses() -> None:
    set_launcher_host("192.0.2.7")
    assert LAUNCHER_HOST not in os.environ
    prepare_environment()
    set_launcher_host("192.0.2.7")
    assert os.environ[LAUNCHER_HOST] == "192.0.2.7"
