"""What orchx changes in the configuration that this version of Ray Serve writes for HAProxy."""

from __future__ import annotations

from pathlib import Path

from ray.serve._private import constants
from ray.serve._private.haproxy_templates import HAPROXY_CONFIG_TEMPLATE

from orchx.actors import haproxy_launcher
from orchx.actors.cluster import SERVE_PORTS

CONFIG = haproxy_launcher.amended(HAPROXY_CONFIG_TEMPLATE, Path("unavailable.json"))


def test_where_no_replica_answers_callers_are_told_to_come_back() -> None:
    _, _, backend = CONFIG.partition("\nbackend default_backend\n")
    answer = backend.strip().splitlines()[0]
    assert "return status 503" in answer
    assert "application/problem+json" in answer
    assert "Retry-After" in answer


def test_statistics_and_metrics_are_for_this_machine_only() -> None:
    for section in ("frontend prometheus", "listen stats"):
        _, _, rest = CONFIG.partition(f"\n{section}\n")
        assert rest.strip().startswith("bind 127.0.0.1:")


def test_it_listens_where_it_shall_and_not_where_serve_was_told() -> None:
    written = HAPROXY_CONFIG_TEMPLATE.replace("{{ config.frontend_host }}", "127.0.0.1")
    config = haproxy_launcher.amended(written, Path("unavailable.json"), "192.0.2.7")
    _, _, rest = config.partition("\nfrontend http_frontend\n")
    assert rest.strip().startswith("bind 192.0.2.7:")


def test_files_are_changed_in_place_and_only_once(tmp_path: Path) -> None:
    config, page = tmp_path / "haproxy.cfg", tmp_path / "500.http"
    config.write_text(HAPROXY_CONFIG_TEMPLATE)
    page.write_text("HTTP/1.1 500 Internal Server Error\r\n\r\n")
    haproxy_launcher.amend(config)
    once = config.read_text()
    haproxy_launcher.amend(config)
    assert config.read_text() == once
    assert page.read_bytes().startswith(b"HTTP/1.1 503 ")


def test_the_ports_that_two_servers_must_not_share_are_settings_of_this_ray() -> None:
    source = Path(constants.__file__).read_text()
    assert [name for name in SERVE_PORTS if f'"{name}"' not in source] == []
