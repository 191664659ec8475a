"""Request headers that steer a submission: `Prefer: wait` and `Idempotency-Key`."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from starlette.requests import Request

from orchx.errors import InvalidRequest, Violation
from orchx.serve.json_body import describe

MAX_KEY_CHARS: Final = 255
_WAIT: Final = re.compile(r'wait\s*=\s*"?(?P<seconds>\d{1,9})"?', re.IGNORECASE | re.ASCII)
_KEY: Final = re.compile(rf"[!-~]{{1,{MAX_KEY_CHARS}}}")


def preferred_wait_s(prefer: Iterable[str]) -> float | None:
    """Return the seconds of `Prefer: wait=n`; preferences that make no sense are ignored.

    Source: RFC 7240, sections 2 (unknown preferences) and 4.3 (wait).
    """
    for header in prefer:
        for preference in header.split(","):
            match = _WAIT.fullmatch(preference.partition(";")[0].strip())
            if match is not None:
                return float(match["seconds"])
    return None


def idempotency_key_of(request: Request) -> str | None:
    """Return the `Idempotency-Key` header; None if there is none.

    Raises:
        InvalidRequest: it is not 1 to 255 visible ASCII characters, or there are two.
    """
    given = request.headers.getlist("idempotency-key")
    if not given:
        return None
    if len(given) == 1 and _KEY.fullmatch(given[0]):
        return given[0]
    fault = Violation(
        pointer="header:Idempotency-Key",
        message="is not one usable key",
        found=describe(given[0]) if len(given) == 1 else f"{len(given)} headers",
        expected=f"1 to {MAX_KEY_CHARS} visible ASCII characters",
    )
    raise InvalidRequest("the Idempotency-Key header is wrong", (fault,))
