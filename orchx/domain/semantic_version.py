"""Which of two versions is the higher: Semantic Versioning 2.0.0, section 11."""

from __future__ import annotations

import re
from typing import Final, TypeAlias

_PATTERN: Final = re.compile(
    r"(0|[1-9][0-9]*)\.(0|[1-9][0-9]*)\.(0|[1-9][0-9]*)"
    r"(?:-((?:0|[1-9][0-9]*|[0-9]*[a-zA-Z-][0-9a-zA-Z-]*)"
    r"(?:\.(?:0|[1-9][0-9]*|[0-9]*[a-zA-Z-][0-9a-zA-Z-]*))*))?"
    r"(?:\+[0-9a-zA-Z-]+(?:\.[0-9a-zA-Z-]+)*)?"
)

_Identifier: TypeAlias = tuple[int, int, str]
# Is it a version; the numbers; is it a release; its pre-release; the text, to break ties.
Precedence: TypeAlias = tuple[bool, tuple[int, int, int], bool, tuple[_Identifier, ...], str]


def precedence(version: str) -> Precedence:
    """Return a key by which versions sort, the lowest first.

    A pre-release comes before its release. What is no semantic version comes before
    all that are; build metadata, which has no precedence, only breaks ties.
    """
    match = _PATTERN.fullmatch(version)
    if match is None:
        return (False, (0, 0, 0), False, (), version)
    numbers = (int(match[1]), int(match[2]), int(match[3]))
    if match[4] is None:
        return (True, numbers, True, (), version)
    return (True, numbers, False, tuple(map(_identifier, match[4].split("."))), version)


def _identifier(text: str) -> _Identifier:
    # Numbers compare as numbers and are lower than words.
    return (0, int(text), "") if text.isdigit() else (1, 0, text)
