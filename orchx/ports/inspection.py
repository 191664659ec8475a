"""What a look at a machine or a server finds, for a person who has to mend it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What one check found; `advice` says what to do about a warning or failure."""

    check: str
    level: Literal["ok", "warn", "fail"]
    detail: str
    advice: str = ""
