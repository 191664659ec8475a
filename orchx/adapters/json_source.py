"""Reads JSON text (RFC 8259) with line numbers, without recursion, refusing duplicate keys.

The standard library's reader recurses, forgets where things stood and keeps the last of
two equal keys; hence this small one, which leaves strings and numbers to it.
"""

from __future__ import annotations

import json
import re
from typing import Final

from orchx.adapters.source_tree import SourceDocument, SourceTree, check_text, refuse
from orchx.domain.json_values import JSON

MAX_NUMBER_CHARACTERS: Final = 64
_TOKEN = re.compile(
    r"""[ \t\n\r]*(?:
      (?P<mark>[\[\]{},:])
    | (?P<string>"(?:[^"\\\x00-\x1f]|\\.)*+")
    | (?P<number>-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?)(?![\w.+-])
    | (?P<word>true|false|null)\b
    | (?P<end>\Z)
    )""",
    re.VERBOSE | re.ASCII,
)
_WORDS: Final = {"true": True, "false": False, "null": None}
# What may come next: one step of RFC 8259's grammar.
_VALUE, _VALUE_OR_END, _KEY, _KEY_OR_END, _COLON, _AFTER = range(6)


def load_json(text: str | bytes) -> SourceDocument:
    """Return the document that `text` holds.

    Raises:
        TooLarge: the text is over `MAX_SOURCE_BYTES`.
        InvalidDocument: it is not JSON, has a duplicate key, or is over a limit.
    """
    text = check_text(text)
    tree = SourceTree()
    closers: list[str] = []
    expecting = _VALUE
    line, counted, position = 1, 0, 0
    while True:
        match = _TOKEN.match(text, position)
        if match is None:
            start = position + len(text[position:]) - len(text[position:].lstrip(" \t\n\r"))
            line += text.count("\n", counted, start)
            refuse("this is not JSON", line=line, found=text[start : start + 20])
        kind = str(match.lastgroup)
        part = match[kind]
        start = match.start(kind)
        line += text.count("\n", counted, start)
        counted, position = start, match.end()
        if kind == "end":
            if closers or expecting != _AFTER:
                refuse("this is not JSON: the text ends too early", line=line)
            return tree.document()
        expecting = _step(kind, part, expecting, closers, tree, line)


def _step(
    kind: str, part: str, expecting: int, closers: list[str], tree: SourceTree, line: int
) -> int:
    """Take one part and return what may come next."""
    if kind == "mark":
        return _mark(part, expecting, closers, tree, line)
    if expecting in (_KEY, _KEY_OR_END) and kind == "string":
        tree.scalar(_decode(part, line), line)
        return _COLON
    if expecting in (_VALUE, _VALUE_OR_END):
        tree.scalar(_WORDS[part] if kind == "word" else _decode(part, line), line)
        return _AFTER
    refuse("this is not JSON", line=line, found=part[:60])


def _mark(part: str, expecting: int, closers: list[str], tree: SourceTree, line: int) -> int:
    if part in "[{" and expecting in (_VALUE, _VALUE_OR_END):
        tree.start([] if part == "[" else {}, line, None)
        closers.append("]" if part == "[" else "}")
        return _VALUE_OR_END if part == "[" else _KEY_OR_END
    may_end = expecting == _AFTER or (expecting, part) in (
        (_VALUE_OR_END, "]"),
        (_KEY_OR_END, "}"),
    )
    if closers and part == closers[-1] and may_end:
        closers.pop()
        tree.end()
        return _AFTER
    if part == ":" and expecting == _COLON:
        return _VALUE
    if part == "," and expecting == _AFTER and closers:
        return _VALUE if closers[-1] == "]" else _KEY
    refuse("this is not JSON", line=line, found=part)


def _decode(part: str, line: int) -> JSON:
    if not part.startswith('"') and len(part) > MAX_NUMBER_CHARACTERS:
        refuse(f"a number has at most {MAX_NUMBER_CHARACTERS} characters", line=line)
    try:
        value = json.loads(part)
    except ValueError as error:
        refuse(f"this is not JSON: {error}", line=line)
    if value in (float("inf"), float("-inf")):
        refuse("a number must be finite", line=line, found=part)
    return value
