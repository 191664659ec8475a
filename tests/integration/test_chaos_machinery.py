"""What `make chaos` breaks with: each tool does what it says, and to nobody else."""

from __future__ import annotations

import errno
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from orchx.adapters.loopback_ports import free_port
from tests.chaos import process_cut
from tests.chaos.clocks import Clock, compile_library
from tests.chaos.disks import Disk, can_slow
from tests.chaos.load import Load
from tests.chaos.network import PREFIX, Machine, is_permitted, network, standing_on
from tests.chaos.process_cut import ProcessCut
from tests.e2e.conditions import eventually

HERE = Machine(name="test-here", address="10.203.9.1")
THERE = Machine(name="test-there", address="10.203.9.2")
PORT = 4711
SILENCE_S = 0.3
AHEAD_S = 1_000
WRITES_PER_S = 10

# Answers every line with it, on every connection, until it is killed.
ECHO = f"""
import asyncio
async def echo(reader, writer):
    while line := await reader.readline():
        writer.write(line)
async def main():
    server = await asyncio.start_server(echo, "{THERE.address}", {PORT})
    print("listening", flush=True)
    await server.serve_forever()
asyncio.run(main())
"""
needs_root = pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("nft") is None or not is_permitted(),
    reason="makes network namespaces and disks: needs root, nft and the kernel's leave",
)


@pytest.fixture
def machines() -> Iterator[None]:
    """Two machines, this thread on one of them, and a server on the other."""
    try:
        with network((HERE, THERE)), standing_on(HERE):
            command = THERE.command(sys.executable, "-c", ECHO)
            with subprocess.Popen(command, stdout=subprocess.PIPE) as server:
                assert server.stdout is not None
                assert server.stdout.readline() == b"listening\n"
                yield
                server.kill()
    except BlockingIOError:
        pytest.skip("make chaos is running on this machine")


def connect() -> socket.socket:
    return socket.create_connection((THERE.address, PORT), timeout=SILENCE_S)


def is_heard(connection: socket.socket) -> bool:
    connection.sendall(b"hello\n")
    try:
        return bool(connection.recv(100))
    except TimeoutError:
        return False


@needs_root
def test_a_machine_that_is_cut_off_is_silent_until_it_is_mended(machines: None) -> None:
    with closing(connect()) as connection:
        assert is_heard(connection)
        THERE.cut()
        assert not is_heard(connection)
        with pytest.raises(TimeoutError):
            connect()
        THERE.mend()
        connection.settimeout(10)
        assert is_heard(connection)


@needs_root
def test_a_machine_has_the_name_that_its_processes_see(machines: None) -> None:
    called = Machine(name=HERE.name, address=HERE.address, is_called_so=True)

    assert subprocess.check_output(called.command("uname", "-n"), text=True) == "test-here\n"
    assert subprocess.check_output(HERE.command("uname", "-n"), text=True) == f"{os.uname()[1]}\n"


@needs_root
def test_a_process_is_cut_off_and_its_neighbour_is_not(machines: None) -> None:
    cut = ProcessCut(HERE, [THERE])
    neighbour = subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        with closing(connect()) as connection:
            cut.cut([neighbour.pid])
            assert is_heard(connection)
            cut.mend()
            cut.cut([os.getpid()])
            assert not is_heard(connection)
            cut.mend()
            connection.settimeout(10)
            assert is_heard(connection)
    finally:
        neighbour.kill()
        neighbour.communicate()
        process_cut.unmount()
    assert not list(Path("/sys/fs/cgroup").glob(f"*/{PREFIX}*"))


@needs_root
def test_a_disk_runs_full_to_the_last_byte_and_has_room_again(tmp_path: Path) -> None:
    disk = Disk(tmp_path / "disk", tmp_path / "image", size_mb=16)
    disk.attach()
    try:
        disk.fill()
        with pytest.raises(OSError, match="No space") as failure:
            (disk.folder / "more").write_bytes(b"x")
        assert failure.value.errno == errno.ENOSPC
        disk.free()
        (disk.folder / "more").write_bytes(bytes(1 << 20))
    finally:
        disk.detach()
    assert not any((tmp_path / "disk").iterdir())


@needs_root
@pytest.mark.skipif(not can_slow(), reason="the kernel has no block throttle of the first version")
def test_a_slow_disk_lets_a_few_writes_through_a_second(tmp_path: Path) -> None:
    disk = Disk(tmp_path / "disk", tmp_path / "image", size_mb=16)
    disk.attach()
    try:
        disk.slow(WRITES_PER_S)
        begun_s = time.monotonic()
        with (disk.folder / "file").open("wb", buffering=0) as file:
            for _ in range(2 * WRITES_PER_S):
                file.write(bytes(4_096))
                os.fdatasync(file.fileno())
        assert time.monotonic() - begun_s > 1  # a limit from below: no load makes it faster
    finally:
        disk.detach()


@pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler")
def test_a_clock_is_set_while_a_process_looks_at_it_and_waits(tmp_path: Path) -> None:
    clock = Clock(tmp_path / "clock", compile_library(tmp_path))
    program = (
        "import time\n"
        "for _ in range(2):\n"
        "    input()\n"
        "    begun = time.monotonic()\n"
        "    time.sleep(0.01)\n"
        "    print(int(time.time()), time.monotonic() - begun, flush=True)\n"
    )
    with subprocess.Popen(
        [*clock.prefix(), sys.executable, "-c", program],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        shown = []
        for ahead_s in (0, AHEAD_S):
            clock.set(ahead_s)
            print(file=process.stdin, flush=True)
            wall, waited = process.stdout.readline().split()
            shown.append(int(wall) - time.time())
            assert float(waited) < AHEAD_S / 2
    assert abs(shown[0]) < AHEAD_S / 2
    assert abs(shown[1] - AHEAD_S) < AHEAD_S / 2


def test_a_load_that_is_stopped_tries_nothing_more() -> None:
    url = f"http://127.0.0.1:{free_port()}"
    load = Load(url, "key", "test", definition=("n", "d"), rate_per_s=100)
    load.start()
    eventually(lambda: any(each.refusals for each in load.requests), "a refusal")
    load.stop()
    assert not load.is_alive()
    assert load.error is None
