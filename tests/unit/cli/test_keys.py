from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.cli.conftest import Cli


@pytest.mark.parametrize("tenant", ["", "HR Team"])
def test_a_tenant_that_cannot_be_is_wrong_usage(cli: Cli, tmp_path: Path, tenant: str) -> None:
    data = ("--data-dir", str(tmp_path))
    result = cli.run("keys", "create", "bob", "--scope", "submit", "--tenant", tenant, *data)
    assert result.exit_code == 2
    assert f"--tenant {tenant!r}: is no tenant" in result.stderr
    assert result.stdout == ""
    assert not list(tmp_path.iterdir())


def test_a_key_for_a_tenant(cli: Cli, tmp_path: Path) -> None:
    data = ("--data-dir", str(tmp_path))
    made = cli.run("keys", "create", "bob", "--scope", "submit", "--tenant", "hr", *data)
    assert made.exit_code == 0
    assert "hr" in cli.run("keys", "list", *data).stdout.split()
