"""Starts HAProxy for Ray Serve, with what Serve has no settings for. Standard library only.

- HAProxy ends with the process that started it: an orphan would keep the port, and a killed
  server could not be started again.
- Where no replica answers (at start, after a crash), callers hear 503, a problem document and
  when to come back, instead of Serve's 404 or 500: both would tell them to give up.
- Its own statistics and metrics are for this machine only.
- It listens at an address of this machine that Serve is not told of: Serve would have the replicas
  listen there alone, while HAProxy looks for them at loopback.

Each change is a replacement in what Serve has written; where a newer Serve writes otherwise,
that part stays as it is.
"""

from __future__ import annotations

import ctypes
import json
import os
import re
import signal
import sys
from pathlib import Path

PR_SET_PDEATHSIG = 1
RETRY_AFTER_S = 1
PROBLEM = {
    "type": "/problems/unavailable",
    "title": "Unavailable",
    "status": 503,
    "detail": "No ingestion process answers now; it is starting, or being replaced.",
    "instance": "/",
    "errors": [],
}


def end_with_parent() -> None:
    """Have the kernel end this process, and what it becomes, when its parent ends (Linux)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def amended(config: str, problem_file: Path, host: str | None = None) -> str:
    """Return Serve's configuration with orchx's answers and addresses.

    Args:
        config: HAProxy's configuration as Serve has written it.
        problem_file: body of the answer where no replica answers.
        host: where to listen in place of loopback.
    """
    unavailable = (
        f"http-request return status 503 content-type application/problem+json"
        f" file {problem_file} hdr Retry-After {RETRY_AFTER_S}"
    )
    config = re.sub(
        r"(?m)(^backend default_backend\n\s*)http-request return status 404 .*$",
        lambda found: found[1] + unavailable,
        config,
    )
    if host:
        config = re.sub(
            r"(?m)^(frontend http_frontend\n\s*bind )127\.0\.0\.1:", rf"\g<1>{host}:", config
        )
    return re.sub(
        r"(?m)^(frontend prometheus|listen stats)(\n\s*bind )\*?:", r"\1\g<2>127.0.0.1:", config
    )


def error_page(body: bytes) -> bytes:
    """Return a whole response for `errorfile`."""
    head = (
        "HTTP/1.1 503 Service Unavailable",
        "Content-Type: application/problem+json",
        f"Retry-After: {RETRY_AFTER_S}",
        f"Content-Length: {len(body)}",
        "Connection: close",
    )
    return "\r\n".join((*head, "", "")).encode() + body


def amend(config_file: Path) -> None:
    """Change Serve's files in place, before HAProxy reads them."""
    body = json.dumps(PROBLEM).encode()
    problem_file = config_file.with_name("unavailable.json")
    problem_file.write_bytes(body)
    for page in config_file.parent.glob("500.http"):
        page.write_bytes(error_page(body))
    config_file.write_text(
        amended(config_file.read_text(), problem_file, os.environ.get("ORCHX_LAUNCHER_HOST"))
    )


def main(arguments: list[str]) -> None:
    """Become HAProxy."""
    end_with_parent()
    if "-f" in arguments:
        amend(Path(arguments[arguments.index("-f") + 1]))
    binary = os.environ["ORCHX_LAUNCHER_HAPROXY"]
    os.execv(binary, [binary, *arguments])  # noqa: S606  a constant program, no shell


if __name__ == "__main__":
    main(sys.argv[1:])
