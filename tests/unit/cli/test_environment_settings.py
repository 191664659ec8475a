"""A wrong setting in the environment is wrong usage, told by its variable."""

from __future__ import annotations

import pytest

from orchx.cli.environment_settings import read_settings
from orchx.cli.failures import UsageError
from tests.unit.cli.conftest import Cli


def test_up_names_the_variable(cli: Cli) -> None:
    done = cli.start("up", ORCHX_HTTP__PORT="abc")
    assert done.returncode == 2
    assert done.stderr.startswith("error: ORCHX_HTTP__PORT: Input should be a valid integer")
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("variables", "named"),
    [
        ({"ORCHX_HTTP__PORT": "70000"}, ["ORCHX_HTTP__PORT: "]),
        ({"orchx_http__prot": "1"}, ["ORCHX_HTTP__PROT: "]),
        ({"ORCHX_HTTP": '{"port": "x"}'}, ["ORCHX_HTTP: "]),
        ({"ORCHX_TASK_MODULES": "[3]"}, ["ORCHX_TASK_MODULES: "]),
        ({"ORCHX_DEFINITIONS": "flows/"}, ["ORCHX_DEFINITIONS: is not JSON"]),
        (
            {"ORCHX_WEBHOOKS__ALLOWED_HOSTS": "a", "ORCHX_WEBHOOKS__TIMEOUT_MS": "100"},
            ["ORCHX_WEBHOOKS__ALLOWED_HOSTS: is not JSON"],
        ),
        (
            {"ORCHX_NAMESPACE": "A B", "ORCHX_HTTP__PORT": "x"},
            ["ORCHX_NAMESPACE: ", "; ORCHX_HTTP__PORT: "],
        ),
        (
            {"ORCHX_KAFKA__MIN_INSYNC_REPLICAS": "2"},
            ["ORCHX_KAFKA__MIN_INSYNC_REPLICAS (2)", "ORCHX_KAFKA__REPLICATION_FACTOR (1)"],
        ),
        (
            {"ORCHX_KAFKA__SECURITY_PROTOCOL": "SASL_SSL", "ORCHX_KAFKA__SASL_USERNAME": "u"},
            ["ORCHX_KAFKA__SECURITY_PROTOCOL is SASL_SSL", "ORCHX_KAFKA__SASL_PASSWORD"],
        ),
        (
            {"ORCHX_KAFKA__SASL_MECHANISM": "PLAIN"},
            ["ORCHX_KAFKA__SASL_MECHANISM", "ORCHX_KAFKA__SECURITY_PROTOCOL is PLAINTEXT"],
        ),
        (
            {"ORCHX_KAFKA__SSL_CAFILE": "ca.pem"},
            ["ORCHX_KAFKA__SSL_CAFILE", "ORCHX_KAFKA__SECURITY_PROTOCOL is PLAINTEXT"],
        ),
    ],
)
def test_every_wrong_variable_is_named(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], named: list[str]
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UsageError) as caught:
        read_settings()
    assert all(part in str(caught.value) for part in named), caught.value


def test_a_value_is_not_shown_for_it_may_be_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ORCHX_WEBHOOKS__SECRETT", "s3cret")
    with pytest.raises(UsageError, match="ORCHX_WEBHOOKS__SECRETT") as caught:
        read_settings()
    assert "s3cret" not in str(caught.value)
