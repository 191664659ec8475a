"""The embedded stores when a process is killed, the disk is full, or a file is damaged."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from orchx.adapters import sqlite_connection, sqlite_group_commit
from orchx.adapters.sqlite_catalog import SqliteCatalog
from orchx.adapters.sqlite_command_queue import SqliteCommandQueue
from orchx.adapters.sqlite_deliveries import SqliteDeliveries
from orchx.adapters.sqlite_event_log import SqliteEventLog
from orchx.adapters.sqlite_state_store import SqliteStateStore
from orchx.domain.events import Record, TaskCompleted, TaskSkipped
from orchx.domain.messages import CancelWorkflow
from orchx.errors import DriverError, StorageFull, Unavailable
from orchx.ports.event_log import Claim

WRITER = Path(__file__).with_name("writer_process.py")
ROOT = Path(__file__).resolve().parents[2]


def spawn(*arguments: str | Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, str(WRITER), *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )


def record(seq: int, size: int = 0) -> Record:
    event = TaskCompleted(parent=0, reference="/x", output="x" * size)
    return Record(workflow_id="w", epoch=1, owner="o", seq=seq, at_ms=1, event=event)


class TestKilledWriters:
    async def test_every_acknowledged_record_is_there(self, tmp_path: Path) -> None:
        path = tmp_path / "log.db"
        acknowledged: Counter[str] = Counter()
        for round_ in range(4):
            names = [f"writer-{round_}-{number}" for number in range(2)]
            writers = [spawn(path, "append", name) for name in names]
            lines: dict[str, list[str]] = {name: [] for name in names}
            for name, writer in zip(names, writers, strict=True):
                assert writer.stdout is not None
                lines[name] = [writer.stdout.readline() for _ in range(50 + 70 * round_)]
            for name, writer in zip(names, writers, strict=True):
                with writer:  # `communicate` would pass over what `readline` has buffered
                    writer.kill()
                    assert writer.stdout is not None
                    rest = writer.stdout.read()
                seqs = [
                    int(line)
                    for line in (*lines[name], *rest.splitlines(True))
                    if line[-1:] == "\n"
                ]
                acknowledged.update(f"{name}/{seq}" for seq in seqs)
            log = SqliteEventLog(path)
            stored: Counter[str] = Counter()
            offset = 0
            while page := await log.tail(offset, limit=10_000):
                stored.update(f"{r.owner}/{r.seq}" for r in page)
                offset = page[-1].offset
            await log.close()
            assert set(acknowledged) <= set(stored)
            assert set(stored.values()) == {3}, "an append is stored wholly or not at all"
        assert len(acknowledged) > 1000

    async def test_one_of_two_processes_opens_a_workflow(self, tmp_path: Path) -> None:
        path, total = tmp_path / "log.db", 300
        processes = [spawn(path, "claim", name, str(total)) for name in ("one", "two")]
        for process in processes:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        for process in processes:
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        found = [tuple(line.split()) for p in processes for line in p.communicate()[0].splitlines()]
        assert Counter(found) == Counter(
            (f"w{number}", epoch, opened)
            for number in range(total)
            for epoch, opened in (("1", "1"), ("2", "0"))
        )
        log = SqliteEventLog(path)
        assert await log.last_offset() == 3 * total
        await log.close()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A real file system of 2 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)]
    try:
        made = subprocess.run(mount, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("there is no mount command")
    if made.returncode != 0:
        pytest.skip(f"a tmpfs cannot be mounted here: {made.stderr.strip()}")
    yield folder
    # Lazily: a test that failed may have left its files open.
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


class TestFullDisk:
    async def test_a_full_file_system(self, small_disk: Path) -> None:
        log = SqliteEventLog(small_disk / "log.db")
        ballast = small_disk / "ballast"
        ballast.write_bytes(bytes(1_000_000))
        stored: list[int] = []

        async def fill() -> None:
            for seq in range(1, 1000):
                await log.append([record(seq, 5_000), record(seq, 5_000)])
                stored.extend([seq, seq])

        with pytest.raises(StorageFull):
            await fill()
        assert len(stored) > 10
        with pytest.raises(StorageFull):
            await log.claim(
                Claim(workflow_id="new", owner="o", at_ms=1, opening=(record(1).event,))
            )
        # Reading goes on, and nothing is there in part.
        assert [r.seq for r in await log.read("w")] == stored
        assert await log.read("new") == []
        ballast.unlink()
        await log.append([record(5000, 5_000)])
        assert (await log.claim(Claim(workflow_id="new", owner="o", at_ms=1))).epoch == 1
        await log.close()
        again = SqliteEventLog(small_disk / "log.db")
        assert [r.seq for r in await again.read("w")] == [*stored, 5000]
        await again.close()

    async def test_a_full_queue_stores_nothing_of_a_put(self, small_disk: Path) -> None:
        queue = SqliteCommandQueue(small_disk / "queue.db")
        ballast = small_disk / "ballast"
        ballast.write_bytes(bytes(1_000_000))
        stored: list[str] = []

        async def fill() -> None:
            for number in range(1000):
                commands = [cancel(f"{number}-{part}") for part in range(2)]
                await queue.put(commands)
                stored.extend(command.id for command in commands)

        with pytest.raises(StorageFull):
            await fill()
        waiting = await queue.pending(after_position=0, limit=10_000)
        assert [command.id for _, command in waiting] == stored
        ballast.unlink()
        await queue.put([cancel("again")])
        await queue.close()

    async def test_a_full_database_file(self, tmp_path: Path) -> None:
        log = SqliteEventLog(tmp_path / "log.db")
        await log.append([record(1)])
        connection = log._database.connection
        (pages,) = connection.execute("PRAGMA page_count").fetchone()
        connection.execute(f"PRAGMA max_page_count = {pages + 10}")
        results = await asyncio.gather(
            *(log.append([record(seq, 9_000)]) for seq in range(2, 40)), return_exceptions=True
        )
        last = results[-1]
        assert isinstance(last, StorageFull)
        assert isinstance(last.__cause__, sqlite3.OperationalError)
        kept = 1 + sum(not isinstance(result, BaseException) for result in results)
        assert len(await log.read("w")) == kept
        connection.execute("PRAGMA max_page_count = 100000")
        await log.append([record(99)])
        assert (await log.read("w"))[-1].seq == 99
        await log.close()

    async def test_a_large_append_is_stored_wholly_or_not_at_all(self, tmp_path: Path) -> None:
        log = SqliteEventLog(tmp_path / "log.db")
        await log.append([record(1)])
        connection = log._database.connection
        connection.execute("PRAGMA max_page_count = 60")
        with pytest.raises(StorageFull):
            await log.append([record(seq, 500) for seq in range(2, 1000)])
        assert [r.seq for r in await log.read("w")] == [1]
        await log.append([record(2)])
        await log.close()


def cancel(id_: str) -> CancelWorkflow:
    return CancelWorkflow(id=id_, workflow_id="w", created_at_ms=1, reason="x" * 5_000)


class TestDamagedFiles:
    @pytest.mark.parametrize(
        "adapter",
        [SqliteEventLog, SqliteCommandQueue, SqliteStateStore, SqliteCatalog, SqliteDeliveries],
    )
    def test_what_is_no_database_is_refused(self, tmp_path: Path, adapter: type) -> None:
        path = tmp_path / "store.db"
        path.write_bytes(b"This is not a database. " * 1000)
        with pytest.raises(DriverError, match=r"store\.db: file is not a database") as caught:
            adapter(path)
        assert isinstance(caught.value.__cause__, sqlite3.DatabaseError)

    async def test_damaged_pages_are_reported(self, tmp_path: Path) -> None:
        path = tmp_path / "log.db"
        log = SqliteEventLog(path)
        await log.append([record(seq, 2_000) for seq in range(1, 50)])
        await log.close()
        with path.open("r+b") as file:
            file.seek(2 * 4096)
            file.write(b"\xff" * (path.stat().st_size - 2 * 4096))
        log = SqliteEventLog(path)
        with pytest.raises(DriverError, match="malformed"):
            await log.read("w")
        with pytest.raises(DriverError, match="malformed"):
            await log.claim(Claim(workflow_id="w", owner="o", at_ms=1))
        await log.close()

    @pytest.mark.parametrize(("version", "age"), [(99, "newer"), (1, "older")])
    async def test_another_schema_is_refused(self, tmp_path: Path, version: int, age: str) -> None:
        path = tmp_path / "log.db"
        with sqlite3.connect(path) as connection:
            connection.execute(f"PRAGMA user_version = {version}")
        connection.close()
        with pytest.raises(DriverError, match=age):
            SqliteEventLog(path)

    async def test_an_event_that_nobody_can_read_is_reported(self, tmp_path: Path) -> None:
        path = tmp_path / "log.db"
        log = SqliteEventLog(path)
        await log.append([record(1)])
        with sqlite3.connect(path) as connection:
            connection.execute("""UPDATE events SET data = '{"type":"future.thing"}'""")
        connection.close()
        with pytest.raises(DriverError, match="cannot read"):
            await log.read("w")
        await log.close()

    async def test_a_folder_in_the_way(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        with pytest.raises(DriverError, match="cannot open"):
            SqliteEventLog(tmp_path / "file" / "log.db")


class TestAHungWriter:
    """Another process was stopped inside a commit and keeps the write lock."""

    @pytest.fixture
    async def log(self, tmp_path: Path) -> AsyncIterator[SqliteEventLog]:
        log = SqliteEventLog(tmp_path / "log.db")
        await log.append([record(1)])
        yield log
        await log.close()

    async def test_a_write_is_given_up_after_a_while_and_does_not_happen_later(
        self, log: SqliteEventLog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(sqlite_group_commit, "SUBMIT_TIMEOUT_S", 0.1)
        with sqlite_connection.WriteLock(tmp_path / "log.db").held():
            with pytest.raises(Unavailable, match="holds the write lock"):
                await log.append([record(2)])
            assert [r.seq for r in await log.read("w")] == [1]
        monkeypatch.undo()
        await log.append([record(3)])
        assert [r.seq for r in await log.read("w")] == [1, 3]

    async def test_a_claim_that_was_given_up_takes_nothing_from_anyone_later(
        self, log: SqliteEventLog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(sqlite_group_commit, "SUBMIT_TIMEOUT_S", 0.1)
        lock = sqlite_connection.WriteLock(tmp_path / "log.db")
        with lock.held(), pytest.raises(Unavailable):
            await log.claim(Claim(workflow_id="w", owner="late", at_ms=1))
        monkeypatch.undo()
        claimed = await log.claim(Claim(workflow_id="w", owner="other", at_ms=1))
        assert [record.owner for record in claimed.history if record.seq == 0] == ["other"]

    async def test_a_command_that_was_given_up_starts_nothing_later(self, tmp_path: Path) -> None:
        path = tmp_path / "commands.db"
        queue = SqliteCommandQueue(path)
        with sqlite_connection.WriteLock(path).held():
            given_up = asyncio.create_task(queue.put([cancel("late")]))
            await asyncio.sleep(0)
            given_up.cancel()
            await asyncio.wait([given_up])
        await queue.put([cancel("other")])
        waiting = await queue.pending(after_position=0, limit=10)
        assert [command.id for _, command in waiting] == ["other"]
        await queue.close()

    async def test_what_waits_is_bounded_in_bytes(
        self, log: SqliteEventLog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(sqlite_group_commit, "PENDING_BYTES_MAX", 100_000)
        with sqlite_connection.WriteLock(tmp_path / "log.db").held():
            waiting = [asyncio.create_task(log.append([record(n, 30_000)])) for n in range(2, 6)]
            await asyncio.sleep(0)
            with pytest.raises(Unavailable, match="bytes wait already"):
                await log.append([record(6)])
        await asyncio.gather(*waiting)
        await log.append([record(6)])
        assert [r.seq for r in await log.read("w")] == [1, 2, 3, 4, 5, 6]

    async def test_others_open_the_file_and_read_it(
        self, log: SqliteEventLog, tmp_path: Path
    ) -> None:
        with sqlite_connection.WriteLock(tmp_path / "log.db").held():
            reader = SqliteEventLog(tmp_path / "log.db", read_only=True)
            assert [r.seq for r in await reader.read("w")] == [1]
            await reader.close()
            writer = SqliteEventLog(tmp_path / "log.db")
            assert await writer.last_offset() == 1
        await writer.close()

    async def test_a_reader_makes_no_file(self, tmp_path: Path) -> None:
        with pytest.raises(DriverError, match="unable to open"):
            SqliteEventLog(tmp_path / "none.db", read_only=True)
        assert not (tmp_path / "none.db").exists()


class TestGroupCommit:
    async def test_a_cancelled_caller_disturbs_nobody(self, tmp_path: Path) -> None:
        log = SqliteEventLog(tmp_path / "log.db")
        tasks = [asyncio.create_task(log.append([record(seq)])) for seq in range(1, 11)]
        await asyncio.sleep(0)
        tasks[3].cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert [result is None for result in results].count(True) == 9
        written = [r.seq for r in await log.read("w")]
        assert sorted({*written, 4}) == list(range(1, 11))
        await log.close()

    async def test_close_commits_what_is_under_way(self, tmp_path: Path) -> None:
        log = SqliteEventLog(tmp_path / "log.db")
        tasks = [asyncio.create_task(log.append([record(seq)])) for seq in range(1, 100)]
        await asyncio.sleep(0)
        await log.close()
        await asyncio.gather(*tasks)
        again = SqliteEventLog(tmp_path / "log.db")
        assert [r.seq for r in await again.read("w")] == list(range(1, 100))
        await again.close()
        with pytest.raises(DriverError, match="closed"):
            await log.append([record(1)])
        with pytest.raises(DriverError, match="closed"):
            await log.read("w")
        await log.close()

    async def test_the_log_can_be_read_in_a_shell(self, tmp_path: Path) -> None:
        log = SqliteEventLog(tmp_path / "log.db")
        event = TaskSkipped(parent=1, reference="/do/0/x")
        await log.claim(Claim(workflow_id="w", owner="o", at_ms=1, opening=(event,)))
        connection = sqlite3.connect(tmp_path / "log.db")
        rows = connection.execute("SELECT type, json_extract(data, '$.reference') FROM events")
        assert rows.fetchall() == [("workflow.activated", None), ("task.skipped", "/do/0/x")]
        connection.close()
        await log.close()
