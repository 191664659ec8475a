"""Field types that bodies and query parameters share."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Annotated, Any, Final
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, StringConstraints, WithJsonSchema

from orchx.domain.cloud_events import MAX_TIME_MS, MIN_TIME_MS
from orchx.domain.names import DNS_LABEL, MAX_DNS_LABEL_CHARS, MAX_TENANT_CHARS, TENANT

MS_PER_DAY: Final = 86_400_000
MAX_URL_CHARS: Final = 2048

_DATE_TIME: Final = re.compile(
    r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(\.\d{1,9})?(Z|[+-]\d{2}:\d{2})", re.ASCII
)
_DECIMAL: Final = re.compile(r"-?\d{1,18}", re.ASCII)
_PORT: Final = (
    r"(:([1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5]))?"
)
_URL: Final = rf"^https?://([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\]){_PORT}([/?#][!-~]*)?$"
_NUMBER: Final = re.compile(r"\d{1,9}(\.\d{1,9})?", re.ASCII)


def epoch_ms(value: Any) -> int:
    """Return an RFC 3339 date-time as epoch milliseconds.

    Raises:
        ValueError: it is none, or not from 1970 to 9998 once in UTC.
    """
    at_ms = round(_moment(value).timestamp() * 1000)
    if not MIN_TIME_MS <= at_ms <= MAX_TIME_MS:
        raise ValueError("Input should be a time from 1970 to 9998, in UTC")
    return at_ms


def _moment(value: Any) -> datetime:
    if not isinstance(value, str) or not _DATE_TIME.fullmatch(value.upper()):
        raise ValueError("Input should be an RFC 3339 date-time such as 2026-03-01T12:00:00Z")
    try:
        return datetime.fromisoformat(value.upper())
    except ValueError:
        raise ValueError("Input should be a date and time that exist") from None


def _as_sent(value: Any) -> Any:
    _moment(value)
    return value


def _plain_http_url(value: str) -> str:
    try:
        parts = urlsplit(value)
        port_is_fine = parts.port is None or parts.port > 0
    except ValueError:
        raise ValueError("Input should be an absolute http or https URL") from None
    if parts.scheme not in ("http", "https") or not parts.hostname or not port_is_fine:
        raise ValueError("Input should be an absolute http or https URL")
    if "@" in parts.netloc:
        raise ValueError("Input should be a URL without user name and password")
    return value


def whole(value: Any) -> Any:
    """Return 5 for 5.0: in JSON, and for JSON schema, that is the same number."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value


def _visible_ascii(value: str) -> str:
    if any(not "!" <= char <= "~" for char in value):
        raise ValueError("Input should be visible ASCII characters")
    return value


def _matching(pattern: re.Pattern[str], what: str) -> BeforeValidator:
    """Take only the plain spelling: int() alone would also take " 5" and "1_000"."""

    def check(value: Any) -> Any:
        if isinstance(value, str) and not pattern.fullmatch(value):
            raise ValueError(f"Input should be {what}")
        return value

    return BeforeValidator(check)


Int = Annotated[int, BeforeValidator(whole)]
Milliseconds = Annotated[int, Field(ge=1, le=MS_PER_DAY), BeforeValidator(whole)]
Timestamp = Annotated[
    int,
    BeforeValidator(epoch_ms),
    WithJsonSchema({"type": "string", "format": "date-time"}),
]
EventTime = Annotated[  # of a CloudEvent: any that exists, and passed on as it is
    str,
    BeforeValidator(_as_sent),
    WithJsonSchema({"type": "string", "format": "date-time"}),
]
HttpUrl = Annotated[
    str,
    StringConstraints(min_length=8, max_length=MAX_URL_CHARS, pattern=_URL),
    AfterValidator(_plain_http_url),
]
IdempotencyKey = Annotated[
    str,
    StringConstraints(min_length=1, max_length=255, pattern=r"^[!-~]+$"),
    AfterValidator(_visible_ascii),
]
Tenant = Annotated[
    str,
    StringConstraints(min_length=1, max_length=MAX_TENANT_CHARS, pattern=f"^{TENANT}$"),
]
RequestType = Annotated[
    str, StringConstraints(min_length=1, max_length=128, pattern=r"^[A-Za-z0-9][A-Za-z0-9._/:-]*$")
]
DnsName = Annotated[  # what the DSL takes as a namespace or name
    str,
    StringConstraints(min_length=1, max_length=MAX_DNS_LABEL_CHARS, pattern=f"^{DNS_LABEL}$"),
]
Version = Annotated[
    str, StringConstraints(min_length=1, max_length=128, pattern=r"^[0-9A-Za-z][0-9A-Za-z.+-]*$")
]
LabelPair = Annotated[str, StringConstraints(max_length=320, pattern=r"^[^=]{1,63}=")]
LabelKey = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._/-]{0,62}$")]
ShortText = Annotated[str, StringConstraints(max_length=255)]
QueryInt = Annotated[int, _matching(_DECIMAL, "a whole number")]
QueryNumber = Annotated[float, _matching(_NUMBER, "a number of seconds")]
QueryBool = Annotated[bool, _matching(re.compile("true|false"), "true or false")]
