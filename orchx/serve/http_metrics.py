"""What an ingestion replica counts."""

from __future__ import annotations

from orchx.engine.metrics import ProcessMetrics

METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE"})


class HttpMetrics:
    """Counts answers and their latency by route, never by raw path or method: both are bounded."""

    def __init__(self, metrics: ProcessMetrics) -> None:
        self._answers = metrics.counter(
            "http_requests", "Answers by method, route and status", ("method", "route", "status")
        )
        self._seconds = metrics.histogram(
            "http_request_seconds", "Time from request to answer", ("method", "route")
        )

    def observe(self, method: str, path: str, status: int, took_s: float) -> None:
        """Count one answer."""
        known = method if method in METHODS else "other"
        self._answers.labels(known, path, str(status)).inc()
        self._seconds.labels(known, path).observe(took_s)
