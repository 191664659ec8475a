"""The type of what flows through a workflow: plain JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

# A recursive alias makes mypy expand every access into a union that jq has checked
# already; documents and schemas are what check shapes here.
JSON: TypeAlias = Any
JSONObject: TypeAlias = Mapping[str, Any]
JSONArray: TypeAlias = Sequence[Any]
