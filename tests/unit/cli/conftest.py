"""A small real server that answers as `docs/http-api.md` says, from a script."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, TypeAlias
from urllib.parse import urlsplit

import pytest
from typer.testing import CliRunner, Result

from orchx.cli.main import app

ROOT = Path(__file__).parents[3]
ORCHX_VARIABLES = ("ORCHX_API_KEY", "ORCHX_DEBUG", "ORCHX_DATA_DIR")
STANDARD = "io.serverlessworkflow."


@dataclass(frozen=True)
class Asked:
    """One request that the server got."""

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


Answer: TypeAlias = tuple[int, Any, dict[str, str]]


@dataclass
class Api:
    """Answers by method and path; each answer is (status, body, headers), or makes one."""

    url: str = ""
    answers: dict[str, Answer | Callable[[Asked], Answer]] = field(default_factory=dict)
    asked: list[Asked] = field(default_factory=list)
    arrived: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))

    def on(self, route: str, body: Any = None, status: int = 200, **headers: str) -> None:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        self.answers[route] = (status, body, named)

    def refuse(self, route: str, slug: str, status: int, *errors: Any, **headers: str) -> None:
        document = {"type": f"/problems/{slug}", "status": status, "detail": f"it is {slug}"}
        headers = {"Content_Type": "application/problem+json", **headers}
        self.on(route, {**document, "errors": errors}, status, **headers)

    def answer(self, asked: Asked) -> tuple[int, bytes, dict[str, str]]:
        self.asked.append(asked)
        self.arrived.release()
        nothing = {"detail": f"no {asked.path} in this test"}
        found = self.answers.get(f"{asked.method} {asked.path}", (404, nothing, {}))
        status, body, headers = found(asked) if callable(found) else found
        if not isinstance(body, bytes):
            headers = {"Content-Type": "application/json", **headers}
            body = b"" if body is None else json.dumps(body).encode()
        return status, body, headers


def _handler(api: Api) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def _do(self) -> None:
            length = int(self.headers.get("content-length", 0))
            parts = urlsplit(self.path)
            headers = {name.lower(): value for name, value in self.headers.items()}
            body = self.rfile.read(length)
            status, answer, extra = api.answer(
                Asked(self.command, parts.path, parts.query, headers, body)
            )
            self.send_response(status)
            for name, value in {**extra, "Content-Length": str(len(answer))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(answer)

        do_GET = do_POST = do_PUT = do_DELETE = _do

        def log_message(self, *args: Any) -> None:
            pass

    return Handler


@pytest.fixture
def api() -> Iterator[Api]:
    api = Api()
    with ThreadingHTTPServer(("127.0.0.1", 0), _handler(api)) as server:
        api.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield api
        server.shutdown()
        thread.join()


@dataclass(frozen=True)
class Cli:
    """Runs `orchx` within this process (`run`), or as a user does (`start`)."""

    api: Api
    environment: Mapping[str, str]

    def run(self, *arguments: str, input: str | None = None) -> Result:
        return CliRunner().invoke(app, arguments, input=input, env=self.environment)

    def start(
        self, *arguments: str, script: str = "", **environment: str
    ) -> subprocess.CompletedProcess[str]:
        command = [str(Path(sys.executable).with_name("orchx")), *arguments]
        if script:
            command = ["bash", "-o", "pipefail", "-c", script]
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        return subprocess.run(
            command,
            cwd=ROOT,
            env={**os.environ, **self.environment, "PATH": path, **environment},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )


@pytest.fixture
def cli(api: Api, monkeypatch: pytest.MonkeyPatch) -> Cli:
    # Unbuffered, Python drops the rest of a write that a closed pipe cuts short, unseen.
    for name in (*ORCHX_VARIABLES, "FORCE_COLOR", "PYTHONUNBUFFERED"):
        monkeypatch.delenv(name, raising=False)
    environment = {"ORCHX_URL": api.url, "COLUMNS": "100", "TZ": "UTC", "NO_COLOR": "1"}
    return Cli(api, environment)


def workflow(**fields: Any) -> dict[str, Any]:
    return {
        "id": "wf_06f8k3a1b2c3d4e5f6g7h8",
        "status": "completed",
        "namespace": "hr",
        "name": "onboarding",
        "version": "1.2.0",
        "tenant": "hr",
        "type": "hr.onboarding",
        "priority": 3,
        "createdAt": "2026-03-01T09:30:00.000Z",
        "updatedAt": "2026-03-01T09:30:05.250Z",
        "endedAt": "2026-03-01T09:30:05.250Z",
        "labels": {"country": "NO"},
        "tasks": {"completed": 5, "faulted": 0, "retries": 1},
        "output": {"laptop": "L-1"},
        "error": None,
        **fields,
    }


def cloud_event(offset: int, kind: str, reference: str | None = None, /, **data: Any) -> Any:
    own = kind.split(".")[0] in ("decision", "event") or kind in ("task.caught", "task.skipped")
    event = {
        "specversion": "1.0",
        "id": f"wf_1/1/{offset}",
        "type": f"{'io.orchx.' if own else STANDARD}{kind}.v1",
        "time": f"2026-03-01T09:30:{offset:02d}.000Z",
        "logoffset": str(offset),
        "data": data,
    }
    return event if reference is None else {**event, "taskreference": reference}


HISTORY = [
    cloud_event(0, "workflow.started", input={}),
    cloud_event(1, "task.completed", "/do/0/check", durationMs=3),
    cloud_event(2, "task.started", "/do/1/try", frame=1, kind="try"),
    cloud_event(
        3, "decision.made", "/do/1/try/0/laptop", question="service", chosen="it-desk", frame=2
    ),
    cloud_event(4, "task.started", "/do/1/try/0/laptop", frame=2, call={"service": "it-desk"}),
    cloud_event(
        5,
        "task.faulted",
        "/do/1/try/0/laptop",
        frame=2,
        error={"type": "https://x/errors/communication", "status": 503, "title": "Busy"},
    ),
    cloud_event(6, "task.retried", "/do/1/try", frame=1, attempt=2),
    cloud_event(7, "task.started", "/do/1/try/0/laptop", frame=3, call={"service": "it-desk"}),
    cloud_event(8, "task.completed", "/do/1/try/0/laptop", frame=3, durationMs=1200),
    cloud_event(9, "task.completed", "/do/1/try", frame=1, durationMs=6000),
    cloud_event(10, "task.skipped", "/do/2/parking"),
    cloud_event(11, "workflow.completed", output={"laptop": "L-1"}),
]


def sse(*events: Any) -> bytes:
    return b"".join(
        f"id: {each['logoffset']}\ndata: {json.dumps(each)}\n\n".encode() for each in events
    )
