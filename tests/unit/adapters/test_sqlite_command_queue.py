"""Rows that only another release can read."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from orchx.adapters.sqlite_command_queue import SqliteCommandQueue
from orchx.errors import DriverError
from tests.unit.engine.dispatching import start


@pytest.mark.parametrize("limit", [1, 2, 100])
async def test_a_command_that_cannot_be_read_stands_before_no_other(
    tmp_path: Path, limit: int
) -> None:
    path = tmp_path / "commands.db"
    queue = SqliteCommandQueue(path)
    await queue.put([start(key) for key in ("bad-1", "bad-2", "good-1", "bad-3", "good-2")])
    connection = sqlite3.connect(path)
    with connection:
        later = "json_set(payload, '$.kind', 'later')"
        connection.execute(f"UPDATE commands SET payload = {later} WHERE id LIKE 'bad%'")  # noqa: S608  constants
    connection.close()
    position, found = 0, []
    with capture_logs() as logs:
        while page := await queue.pending(after_position=position, limit=limit):
            found += [command.id for _, command in page]
            position = page[-1][0]
    assert found == ["good-1", "good-2"]
    assert {line["event"] for line in logs} == {"a command cannot be read, and waits"}
    with pytest.raises(DriverError):
        await queue.find("bad-1")
    await queue.close()
