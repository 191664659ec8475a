"""The demo's stage: a sandbox and a whole orchx of its own, started and surely stopped."""

from __future__ import annotations

import io
import logging
import os
import signal
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import ray

import orchx
from orchx import bootstrap
from orchx.adapters.webhook_secret import webhook_secret
from orchx.cli.demo_cases import SYSTEMS
from orchx.cli.demo_sandbox import SandboxControl
from orchx.cli.failures import UsageError
from orchx.sandbox.process import SandboxProcess
from orchx.serve import api_keys
from orchx.serve.server import start_server, stop_server
from orchx.settings import Settings

EXAMPLES_ADDRESS: Final = "http://127.0.0.1:8610"
NAMESPACE: Final = "orchx-demo"
_EXAMPLES: Final = Path("examples")
# What these say of themselves at every start would break the picture.
_TALKATIVE: Final = ("ray.serve", "ray._private.authentication")


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """Where everything is. `keys` are the systems' API keys, each bound to its tenant."""

    url: str
    admin_key: str
    keys: Mapping[str, str]
    sandbox_url: str
    data_dir: Path
    started_s: float


@contextmanager
def stage(data_dir: Path) -> Iterator[Stage]:
    """Start the sandbox and orchx; stop both at the end, however it comes.

    Raises:
        UsageError: the examples are not there.
        Unavailable: a part did not become ready in time.
    """
    begun_s = time.monotonic()
    examples = _examples()
    os.environ.pop("RAY_ADDRESS", None)  # a cluster of its own: nobody else's is touched
    for name in _TALKATIVE:
        logging.getLogger(name).setLevel(logging.ERROR)
    with SandboxProcess(data_dir / "sandbox") as sandbox:
        _copy_examples(examples, data_dir / "examples", sandbox.url)
        settings = _settings(data_dir, sandbox.url)
        keys = _keys(settings)
        with SandboxControl(sandbox.url) as control:
            for system in SYSTEMS:
                control.share_secret(system, webhook_secret(settings))
        try:
            running = start_server(settings)
            yield Stage(
                url=running.url,
                admin_key=keys["admin"],
                keys={system: keys[system] for system in SYSTEMS},
                sandbox_url=sandbox.url,
                data_dir=data_dir,
                started_s=time.monotonic() - begun_s,
            )
        finally:
            _stop(settings)


def _stop(settings: Settings) -> None:
    """Stop orchx; an impatient second Ctrl-C must not leave half of it behind."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    for number in before:
        signal.signal(number, signal.SIG_IGN)
    try:
        if ray.is_initialized():
            # Ray prints that Serve's controller, which ends itself, has ended.
            with redirect_stdout(io.StringIO()):
                stop_server(settings)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _examples() -> Path:
    """Return the folder of the examples: that of the clone, or of the working directory."""
    beside = Path(orchx.__file__).parent.parent / _EXAMPLES
    for folder in (beside, _EXAMPLES):
        if (folder / "services.yaml").is_file():
            return folder
    raise UsageError("the examples are not there", "Run `orchx demo` in a clone of orchx.")


def _copy_examples(examples: Path, to: Path, sandbox_url: str) -> None:
    """Copy definitions and services, with the sandbox's address in place of the usual one."""
    (to / "definitions").mkdir(parents=True)
    for path in (*sorted((examples / "definitions").glob("*.yaml")), examples / "services.yaml"):
        text = path.read_text(encoding="utf-8").replace(EXAMPLES_ADDRESS, sandbox_url)
        (to / path.relative_to(examples)).write_text(text, encoding="utf-8")


def _settings(data_dir: Path, sandbox_url: str) -> Settings:
    settings = Settings()
    allowed = {"allowed_hosts": (urlsplit(sandbox_url).netloc,)}
    http = {"host": "127.0.0.1", "port": _free_port(), "authentication": "required"}
    return settings.model_copy(
        update={
            "data_dir": data_dir / "orchx",
            "namespace": NAMESPACE,
            "definitions": (data_dir / "examples" / "definitions",),
            "services": (data_dir / "examples" / "services.yaml",),
            "http": settings.http.model_copy(update=http),
            "webhooks": settings.webhooks.model_copy(update=allowed),
        }
    )


def _keys(settings: Settings) -> dict[str, str]:
    """Make an API key for every system, bound to its tenant, and one for the demo itself."""
    path = bootstrap.data_file(settings, api_keys.FILE_NAME)
    now_ms = time.time_ns() // 1_000_000
    made = {}
    for system in SYSTEMS:
        scopes: tuple[api_keys.Scope, ...] = ("submit", "read", "operate")
        _, made[system] = api_keys.create_api_key(
            path, name=system, scopes=scopes, now_ms=now_ms, tenant=system
        )
    _, made["admin"] = api_keys.create_api_key(path, name="demo", scopes=("admin",), now_ms=now_ms)
    return made


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
