from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from tests.chaos import row_run
from tests.chaos.rows import ROWS


class Ledger:
    """That of a sandbox whose ledger cannot be read; knows whether it was closed."""

    def __init__(self, url: str) -> None:
        self.is_closed = False

    def begin(self) -> None:
        raise AssertionError("the ledger cannot be read")

    def close(self) -> None:
        self.is_closed = True


def test_a_row_that_is_not_run_to_its_end_leaves_no_connection_open(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ledger = Ledger("")
    monkeypatch.setattr(row_run, "SandboxLedger", lambda url: ledger)
    site: Any = SimpleNamespace(sandbox=SimpleNamespace(url=""))
    with pytest.raises(AssertionError, match="cannot be read"):
        row_run.run_row(ROWS[0], site, hold_s=0, rate_per_s=1)
    assert ledger.is_closed
