"""Structured logs of an actor: one JSON object a line, on standard error."""

from __future__ import annotations

import logging
import sys

import structlog
from structlog.typing import EventDict


def configure_logs(level: str, process: str) -> None:
    """Set logging up for this process; `process` is on every line."""

    def with_process(_: object, __: str, event: EventDict) -> EventDict:
        # Not bound in a context: Ray calls each method in one of its own.
        event.setdefault("process", process)
        return event

    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            with_process,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    logging.basicConfig(level=level.upper(), stream=sys.stderr)
    # It tells of every attempt that fails; the adapters say, once, what that means.
    logging.getLogger("kafka").setLevel(logging.CRITICAL)
