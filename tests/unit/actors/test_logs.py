"""The log lines of an actor."""

from __future__ import annotations

import contextvars
import json
import logging
from collections.abc import Iterator

import pytest
import structlog

from orchx.actors.logs import configure_logs


@pytest.fixture
def _own_configuration(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(logging, "basicConfig", lambda **_: None)
    yield
    structlog.reset_defaults()


@pytest.mark.usefixtures("_own_configuration")
def test_every_line_names_its_process_in_whatever_context_it_is_written(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Ray runs each call of an actor's method in a context that knows nothing of the others."""
    configure_logs("info", "dispatcher")
    logger = structlog.get_logger(__name__)
    logger.info("here", held=1)
    contextvars.Context().run(lambda: logger.warning("there"))
    contextvars.Context().run(lambda: logger.warning("restarted", process="owner-1"))
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [(line["event"], line["process"]) for line in lines] == [
        ("here", "dispatcher"),
        ("there", "dispatcher"),
        ("restarted", "owner-1"),
    ]
