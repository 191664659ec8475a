"""Builds a JSON document out of a YAML or JSON parser's events, within limits, with line numbers.

It refuses what JSON cannot carry or what would say two things at once: duplicate and
non-text keys, more values, levels or characters than a workflow can need. Aliases are
counted as if written out, so that a few lines cannot stand for gigabytes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final, NoReturn

from orchx.domain.document_limits import LONG_POINTERS, MAX_JSON_DEPTH, MAX_POINTER_CHARACTERS
from orchx.domain.document_report import describe, escape
from orchx.domain.json_values import JSON
from orchx.errors import InvalidDocument, TooLarge, Violation

MAX_SOURCE_BYTES: Final = 256 * 1024
MAX_NODES: Final = 50_000  # values, with aliases written out
MAX_CHARACTERS: Final = 4 * MAX_SOURCE_BYTES  # of text, with aliases written out


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceDocument:
    """A document as read from text: its value, and the 1-based line of each JSON pointer."""

    value: JSON
    lines: dict[str, int]


@dataclass(slots=True, kw_only=True)
class _Open:
    """An array or object whose end has not come yet."""

    value: Any
    pointer: str
    anchor: str | None
    nodes_before: int
    characters_before: int
    key: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Anchored:
    value: JSON
    nodes: int
    characters: int


@dataclass(slots=True)
class SourceTree:
    """Takes a parser's events in order and gives the document once the last has come."""

    lines: dict[str, int] = field(default_factory=dict)
    value: JSON = None
    _open: list[_Open] = field(default_factory=list)
    _anchors: dict[str, _Anchored | None] = field(default_factory=dict)  # None: not ended yet
    _nodes: int = 0
    _characters: int = 0
    _pointer_characters: int = 0

    def document(self) -> SourceDocument:
        """Return the whole document."""
        return SourceDocument(value=self.value, lines=self.lines)

    def scalar(self, value: JSON, line: int, anchor: str | None = None) -> None:
        """Take a key, or a value that is neither an array nor an object."""
        characters = len(value) if isinstance(value, str) else 1
        self._count(1, characters, line)
        if anchor is not None:
            self._anchors[anchor] = _Anchored(value=value, nodes=1, characters=characters)
        self._place(value, line)

    def start(self, value: list[JSON] | dict[str, JSON], line: int, anchor: str | None) -> None:
        """Take the beginning of an array or object; `value` is an empty one."""
        if len(self._open) >= MAX_JSON_DEPTH:
            refuse(f"the document is nested more than {MAX_JSON_DEPTH} levels deep", line=line)
        nodes, characters = self._nodes, self._characters
        self._count(1, 1, line)
        if anchor is not None:
            self._anchors[anchor] = None
        pointer = self._place(value, line)
        self._open.append(
            _Open(
                value=value,
                pointer=pointer,
                anchor=anchor,
                nodes_before=nodes,
                characters_before=characters,
            )
        )

    def end(self) -> None:
        """Take the end of the innermost array or object."""
        ended = self._open.pop()
        if ended.anchor is not None:
            self._anchors[ended.anchor] = _Anchored(
                value=ended.value,
                nodes=self._nodes - ended.nodes_before,
                characters=self._characters - ended.characters_before,
            )

    def alias(self, anchor: str, line: int) -> None:
        """Take an alias as if what it names were written out here; lines stop at it."""
        if anchor not in self._anchors:
            refuse(f"the alias {describe(anchor)} has no anchor", self._pointer(), line=line)
        anchored = self._anchors[anchor]
        if anchored is None:
            message = f"the alias {describe(anchor)} stands inside its own anchor"
            refuse(message, self._pointer(), line=line)
        self._count(anchored.nodes, anchored.characters, line)
        self._place(anchored.value, line)

    def _count(self, nodes: int, characters: int, line: int) -> None:
        self._nodes += nodes
        self._characters += characters
        if self._nodes > MAX_NODES:
            refuse(f"the document has more than {MAX_NODES} values", line=line)
        if self._characters > MAX_CHARACTERS:
            refuse(f"the document has more than {MAX_CHARACTERS} characters of text", line=line)

    def _pointer(self) -> str:
        if not self._open:
            return ""
        parent = self._open[-1]
        if isinstance(parent.value, list):
            return f"{parent.pointer}/{len(parent.value)}"
        return parent.pointer if parent.key is None else f"{parent.pointer}/{escape(parent.key)}"

    def _place(self, value: JSON, line: int) -> str:
        """Put a value where it belongs and return its pointer."""
        pointer = self._pointer()
        if not self._open:
            self.value = value
            self._note(pointer, line)
            return pointer
        parent = self._open[-1]
        if isinstance(parent.value, list):
            parent.value.append(value)
            self._note(pointer, line)
        elif parent.key is None:
            self._take_key(parent, value, line)
        else:
            parent.value[parent.key] = value  # the line is the key's: there one looks
            parent.key = None
        return pointer

    def _take_key(self, parent: _Open, key: JSON, line: int) -> None:
        if not isinstance(key, str):
            message = "a property's name must be text; quote it"
            refuse(message, parent.pointer, line=line, found=describe(key))
        pointer = f"{parent.pointer}/{escape(key)}"
        if key == "<<":
            refuse("merge keys are not supported", pointer, line=line)
        if key in parent.value:
            first = self.lines.get(pointer)
            message = f"the property {describe(key)} stands twice, first in line {first}"
            refuse(message, pointer, line=line)
        self._note(pointer, line)
        parent.key = key

    def _note(self, pointer: str, line: int) -> None:
        self._pointer_characters += len(pointer)
        if self._pointer_characters > MAX_POINTER_CHARACTERS:
            refuse(LONG_POINTERS, line=line)
        self.lines[pointer] = line


def check_text(text: str | bytes) -> str:
    """Return `text` as a string that is UTF-8, not too long and free of NUL.

    Raises:
        TooLarge: it has more than `MAX_SOURCE_BYTES` bytes.
        InvalidDocument: it is not UTF-8, or holds NUL.
    """
    if len(text) > MAX_SOURCE_BYTES:
        raise TooLarge(f"The document is over {MAX_SOURCE_BYTES} bytes")
    if isinstance(text, str):
        try:
            encoded = text.encode()
        except UnicodeEncodeError as error:
            line = text.count("\n", 0, error.start) + 1
            refuse("the text holds a lone surrogate", line=line)
    else:
        encoded = text
        try:
            text = encoded.decode()
        except UnicodeDecodeError as error:
            line = encoded.count(b"\n", 0, error.start) + 1
            refuse("the text is not UTF-8", line=line)
    if len(encoded) > MAX_SOURCE_BYTES:
        raise TooLarge(f"The document is over {MAX_SOURCE_BYTES} bytes")
    if "\0" in text:
        refuse("the text holds NUL", line=text.count("\n", 0, text.index("\0")) + 1)
    return text.removeprefix("\ufeff")


def refuse(
    message: str, pointer: str = "", *, line: int | None = None, found: str | None = None
) -> NoReturn:
    """Raise `InvalidDocument` for text that cannot be read as a document."""
    violation = Violation(pointer=pointer, message=message, found=found, line=line)
    raise InvalidDocument("The text cannot be read as a document:", (violation,))
