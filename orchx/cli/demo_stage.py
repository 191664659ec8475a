"""The demo's stage: a sandbox and a whole orchx of its own, started and surely stopped."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from orchx.adapters.loopback_ports import free_port
from orchx.adapters.webhook_secret import tenant_secret, webhook_secret
from orchx.cli.demo_cases import SYSTEMS
from orchx.cli.demo_sandbox import SandboxControl
from orchx.cli.environment_settings import read_settings
from orchx.cli.example_files import copy_examples
from orchx.cli.orderly_end import stop_for_good
from orchx.sandbox.process import SandboxProcess
from orchx.serve.api_keys import create_api_key
from orchx.serve.server import start_server
from orchx.settings import ClusterSettings, Settings
from orchx.stores import open_stores

NAMESPACE: Final = "orchx-demo"
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
    os.environ.pop("RAY_ADDRESS", None)  # a cluster of its own: nobody else's is touched
    for name in _TALKATIVE:
        logging.getLogger(name).setLevel(logging.ERROR)
    with SandboxProcess(data_dir / "sandbox") as sandbox:
        copy_examples(data_dir / "examples", sandbox.url)
        settings = demo_settings(data_dir, sandbox.url)
        keys = asyncio.run(_keys(settings))
        with SandboxControl(sandbox.url) as control:
            for system in SYSTEMS:
                control.share_secret(system, tenant_secret(webhook_secret(settings), system))
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
            stop_for_good(settings)


def demo_settings(data_dir: Path, sandbox_url: str) -> Settings:
    """Return the environment's settings, less what would touch an installation that others use.

    Raises:
        UsageError: a variable holds what its setting cannot be.
    """
    settings = read_settings()
    allowed = {"allowed_hosts": (urlsplit(sandbox_url).netloc,)}
    http = {"host": "127.0.0.1", "port": free_port(), "authentication": "required"}
    return settings.model_copy(
        update={
            "profile": "embedded",  # its keys may do anything, and nobody would revoke them
            "data_dir": data_dir / "orchx",
            "namespace": NAMESPACE,
            "definitions": (data_dir / "examples" / "definitions",),
            "services": (data_dir / "examples" / "services.yaml",),
            "http": settings.http.model_copy(update=http),
            "webhooks": settings.webhooks.model_copy(update=allowed),
            "cluster": ClusterSettings(),  # on one machine, whatever else is told where to run
        }
    )


async def _keys(settings: Settings) -> dict[str, str]:
    """Make an API key for every system, bound to its tenant, and one for the demo itself."""
    store = open_stores(settings).key_store()
    now_ms = time.time_ns() // 1_000_000
    made = {}
    for system in SYSTEMS:
        _, made[system] = await create_api_key(
            store,
            name=system,
            scopes=("submit", "read", "operate"),
            now_ms=now_ms,
            tenant=system,
        )
    _, made["admin"] = await create_api_key(store, name="demo", scopes=("admin",), now_ms=now_ms)
    return made
