"""Runs Schemathesis, all checks, against a server that is up."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import httpx

CONFIG = Path(__file__).with_name("schemathesis.toml")
DEFINITION = """\
document: {dsl: 1.0.3, namespace: hr, name: onboarding, version: 1.2.0}
do:
  - greet:
      set: {greeting: hello}
"""


def run_schemathesis(api_url: str, api_key: str, *, budget_s: int, seed: int) -> None:
    """Fail with the report if any check finds anything within `budget_s` seconds."""
    authorization = f"Authorization: Bearer {api_key}"
    # What the examples in the document ask for.
    published = httpx.put(
        f"{api_url}/v1/definitions",
        params={"requestType": "hr.onboarding"},
        headers={"Authorization": f"Bearer {api_key}", "Content-Type": "application/yaml"},
        content=DEFINITION,
    )
    assert published.status_code in (200, 201), published.text
    command = [
        str(Path(sys.executable).with_name("schemathesis")),
        "--config-file",
        str(CONFIG),
        "run",
        f"{api_url}/openapi.json",
        "--header",
        authorization,
        "--checks",
        "all",
        "--seed",
        str(seed),
        "--max-time",
        str(budget_s),
        "--max-examples",
        "20",
        "--no-color",
    ]
    # It leaves its notes of failures where it runs.
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            command, check=False, capture_output=True, text=True, timeout=budget_s + 60, cwd=folder
        )
    assert done.returncode == 0, f"seed {seed}\n{done.stdout[-20_000:]}\n{done.stderr[-2_000:]}"
