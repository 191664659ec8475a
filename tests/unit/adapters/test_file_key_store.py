"""What only a file does: its mode, and a file that is not as it should be."""

from __future__ import annotations

import asyncio
import json
import stat
from pathlib import Path

import pytest

from orchx.adapters.file_key_store import FileKeyStore
from orchx.errors import DriverError, InvalidRequest
from tests.contract.test_key_store import key


async def test_the_file_is_for_its_owner(tmp_path: Path) -> None:
    path = tmp_path / "data" / "keys.json"
    await FileKeyStore(path).add(key(tenant="hr"))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert json.loads(path.read_text())["keys"][0]["tenant"] == "hr"


async def test_a_file_that_others_can_read_is_not_used(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    store = FileKeyStore(path)
    await store.add(key())
    assert await store.list() == (key(),)
    path.chmod(0o640)
    with pytest.raises(InvalidRequest, match="chmod 600"):
        await store.list()


async def test_a_file_that_is_none_of_ours_is_told(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    path.write_text("[]")
    path.chmod(0o600)
    with pytest.raises(DriverError, match=r"keys\.json"):
        await FileKeyStore(path).list()


def test_looking_for_keys_makes_nothing(tmp_path: Path) -> None:
    assert asyncio.run(FileKeyStore(tmp_path / "data" / "keys.json").list()) == ()
    assert not list(tmp_path.iterdir())
