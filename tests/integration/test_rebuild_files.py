"""`orchx rebuild` on the files of one machine: what a person types, and sees."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from orchx.adapters.sqlite_event_log import SqliteEventLog
from orchx.adapters.sqlite_exclusive import only_one
from orchx.adapters.sqlite_state_store import SqliteStateStore
from orchx.adapters.system_clock import SystemClock
from orchx.cli.main import app
from orchx.domain.events import AnyEvent, EventEmitted, Record, WorkflowActivated
from orchx.engine.projector import Projector
from orchx.errors import DriverError
from orchx.maintenance import replacing
from orchx.maintenance.verifying import COPY_FILE, LOCK_FILE
from orchx.settings import Settings
from orchx.stores import EmbeddedStores
from orchx.testing.made_histories import appends, mixed_histories

WORKFLOWS = 100
ONE = f"wf_made{0:016d}"


async def serve(folder: Path, count: int, *, first: int = 0, project: bool = True) -> None:
    """Do what an engine would have done."""
    log, states = SqliteEventLog(folder / "events.db"), SqliteStateStore(folder / "state.db")
    for records in appends(mixed_histories(count, first=first)):
        await log.append(records)
    projector = Projector(log, states, SystemClock(), Settings())
    while project and await projector.step():
        pass
    await log.close()
    await states.close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    asyncio.run(serve(tmp_path, WORKFLOWS))
    return tmp_path


def rebuild(folder: Path, *options: str) -> Result:
    environment = {"COLUMNS": "120", "NO_COLOR": "1"}
    arguments = ("rebuild", "--data-dir", str(folder), *options)
    return CliRunner().invoke(app, arguments, env=environment)


def change(folder: Path, statement: str, workflow_id: str = ONE) -> None:
    with sqlite3.connect(folder / "state.db") as connection:
        assert connection.execute(statement, (workflow_id,)).rowcount == 1
    connection.close()


def verdict(result: Result) -> Any:
    return json.loads(result.stdout)


def test_nothing_differs(folder: Path) -> None:
    result = rebuild(folder)
    assert result.exit_code == 0, result.output
    assert [line.split() for line in result.stdout.splitlines()[:2]] == [
        ["STORE", "LIVE", "REBUILT", "EQUAL", "DIFFER", "MAY", "DIFFER"],
        ["workflows", "100", "100", "100", "0"],
    ]
    assert result.stdout.splitlines()[2].startswith("equal: 1,285 records; ")
    assert not (folder / COPY_FILE).exists()


def test_what_differs_is_shown_with_what_it_should_be(folder: Path) -> None:
    change(folder, "UPDATE workflows SET status = 'waiting' WHERE workflow_id = ?")
    change(folder, "DELETE FROM workflows WHERE workflow_id = ?", f"wf_made{1:016d}")
    result = rebuild(folder)
    assert result.exit_code == 1
    assert f"workflows {ONE}: differs" in result.stdout
    assert 'status: "waiting", by the log "completed"' in result.stdout
    assert f"workflows wf_made{1:016d}: missing" in result.stdout
    assert "NOT equal: 2 differ" in result.stdout
    few = rebuild(folder, "--show", "1")
    assert "… 1 more in workflows" in few.stdout


def test_a_program_gets_json(folder: Path) -> None:
    change(folder, "UPDATE workflows SET tenant = 'x' WHERE workflow_id = ?")
    result = rebuild(folder, "--json")
    assert result.exit_code == 1
    found = verdict(result)
    assert found["equal"] is False
    assert found["records"] == 1285
    [store] = found["stores"]
    assert (store["live"], store["rebuilt"], store["equal"], store["differing"]) == (
        *(WORKFLOWS, WORKFLOWS),
        *(WORKFLOWS - 1, 1),
    )
    assert store["differences"] == [
        {
            "key": ONE,
            "kind": "differs",
            "fields": {"tenant": {"live": '"x"', "rebuilt": '"tenant-0"'}},
        }
    ]


def test_a_tampered_summary_is_made_right(folder: Path) -> None:
    change(folder, "UPDATE workflows SET data = '{}' WHERE workflow_id = ?")
    assert "data is unreadable" in rebuild(folder).stdout
    result = rebuild(folder, "--replace")
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith("replaced: 100 workflows (85 completed, 10 faulted, 5 waiting)")
    assert rebuild(folder).exit_code == 0


def test_a_lost_or_damaged_file_is_made_anew(folder: Path) -> None:
    (folder / "state.db").unlink()
    lost = rebuild(folder)
    assert lost.exit_code == 1
    assert "nothing is there of partitions 0" in lost.stdout
    done = verdict(rebuild(folder, "--replace", "--json"))
    assert (done["replaced"], sum(done["workflows"].values())) == (True, WORKFLOWS)
    assert rebuild(folder).exit_code == 0
    (folder / "state.db").write_bytes(b"not a database" * 1_000)
    assert rebuild(folder).exit_code == 4
    assert rebuild(folder, "--replace").exit_code == 0
    assert rebuild(folder).exit_code == 0


def test_a_file_in_use_is_compared_and_not_replaced(folder: Path) -> None:
    async def attempt() -> tuple[Result, Result]:
        states = SqliteStateStore(folder / "state.db")
        await states.offset()
        try:
            return (
                await asyncio.to_thread(rebuild, folder),
                await asyncio.to_thread(rebuild, folder, "--replace"),
            )
        finally:
            await states.close()

    compared, replaced = asyncio.run(attempt())
    assert compared.exit_code == 0
    assert replaced.exit_code == 4
    assert "is in use: stop orchx first" in replaced.stderr
    assert rebuild(folder).exit_code == 0


def test_two_at_once_are_refused(folder: Path) -> None:
    with only_one(folder / LOCK_FILE):
        for options in ((), ("--replace",)):
            refused = rebuild(folder, *options)
            assert refused.exit_code == 4
            assert "another command is at work" in refused.stderr


def test_one_that_was_cut_short_changes_nothing(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    change(folder, "UPDATE workflows SET tenant = 'x' WHERE workflow_id = ?")

    def cut(made: Path, path: Path) -> None:
        raise DriverError("cut short")

    with monkeypatch.context() as patched:
        patched.setattr(replacing, "put_in_place", cut)
        assert rebuild(folder, "--replace").exit_code == 4
    assert f"workflows {ONE}: differs" in rebuild(folder).stdout
    assert rebuild(folder, "--replace").exit_code == 0
    assert rebuild(folder).exit_code == 0


def test_what_was_not_projected_is_projected_and_what_it_causes_is_queued(folder: Path) -> None:
    async def go_on() -> int:
        log = SqliteEventLog(folder / "events.db")
        emitted = EventEmitted(event={"id": "e", "source": "s", "type": "t"})
        events: tuple[AnyEvent, ...] = (WorkflowActivated(), emitted)
        for seq, event in enumerate(events):
            record = Record(
                workflow_id="wf_late", epoch=1, owner="o", seq=seq, at_ms=2_000, event=event
            )
            await log.append([record])
        await log.close()
        return await waiting()

    async def waiting() -> int:
        queue = EmbeddedStores(Settings(data_dir=folder)).command_queue()
        try:
            return (await queue.backlog()).total
        finally:
            await queue.close()

    assert asyncio.run(go_on()) == 0
    behind = rebuild(folder)
    assert behind.exit_code == 0
    assert "not projected to the end" in behind.stdout
    for _ in range(2):
        assert rebuild(folder, "--replace").exit_code == 0
        assert asyncio.run(waiting()) == 1
    assert "not projected" not in rebuild(folder).stdout


def test_wrong_usage_is_told(tmp_path: Path) -> None:
    assert rebuild(tmp_path, "--webhooks", "skip").exit_code == 2
    for options in ((), ("--replace",)):
        nothing = rebuild(tmp_path, *options)
        assert nothing.exit_code == 4
        assert "is not the data folder of an orchx" in nothing.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "arguments", [(), ("--undo", "--partitions", "3"), ("--undo", "--to", "x"), ("--to", "a b")]
)
def test_wrong_usage_of_repartition_is_told(arguments: tuple[str, ...]) -> None:
    assert CliRunner().invoke(app, ("repartition", *arguments)).exit_code == 2


def test_files_are_not_repartitioned() -> None:
    result = CliRunner().invoke(app, ("repartition", "--partitions", "3"))
    assert result.exit_code == 4
    assert "embedded" in result.stderr
