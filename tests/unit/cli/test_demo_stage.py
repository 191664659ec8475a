"""Where the demo keeps what it makes."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchx.cli.demo_stage import demo_settings


def test_it_leaves_the_stores_alone_that_others_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ORCHX_PROFILE", "kafka")
    monkeypatch.setenv("ORCHX_DATA_DIR", str(tmp_path / "others"))
    settings = demo_settings(tmp_path / "demo", "http://127.0.0.1:9")
    assert (settings.profile, settings.data_dir) == ("embedded", tmp_path / "demo" / "orchx")
