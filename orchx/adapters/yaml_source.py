"""Reads YAML 1.2 text as JSON, with line numbers (PyYAML's events, with libyaml beneath).

Only PyYAML's parser is used. What a plain scalar means is decided here, by YAML 1.2's
core schema: PyYAML itself reads YAML 1.1, in which the DSL's property `on` is `true`,
`1:30` is 90 and `2024-01-01` is a date, and whose tags can make Python objects.
"""

from __future__ import annotations

import re
from typing import Final

import yaml

from orchx.adapters.source_tree import SourceDocument, SourceTree, check_text, refuse
from orchx.domain.json_values import JSON

MAX_NUMBER_CHARACTERS: Final = 64
_CONSTANTS: Final[dict[str, bool | None]] = {
    "": None,
    "~": None,
    **dict.fromkeys(("null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
_INTEGER = re.compile(r"[-+]?[0-9]+")
_OCTAL_OR_HEX = re.compile(r"0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
_NOT_FINITE = re.compile(r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)")
_PLAIN_TAGS: Final = frozenset((None, "!"))


def load_yaml(text: str | bytes) -> SourceDocument:
    """Return the one document that `text` holds.

    Raises:
        TooLarge: the text is over `MAX_SOURCE_BYTES`.
        InvalidDocument: it is not YAML, or holds what JSON cannot: tags, duplicate or
            non-text keys, several documents, infinite numbers; or it is over a limit.
    """
    text = check_text(text)
    tree = SourceTree()
    documents = 0
    try:
        for event in yaml.parse(text, Loader=yaml.CSafeLoader):
            if isinstance(event, yaml.DocumentStartEvent):
                documents += 1
                if documents > 1:
                    refuse("the text holds more than one document", line=_line(event))
            else:
                _take(event, tree)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = None if mark is None else mark.line + 1
        refuse(f"this is not YAML: {error.problem or error.context}", line=line)
    except yaml.YAMLError as error:
        refuse(f"this is not YAML: {str(error).splitlines()[0]}")
    if documents == 0:
        refuse("the text is empty")
    return tree.document()


def _take(event: yaml.Event, tree: SourceTree) -> None:
    if isinstance(event, yaml.AliasEvent):
        tree.alias(str(event.anchor), _line(event))
        return
    if isinstance(event, yaml.NodeEvent):
        tag = getattr(event, "tag", None)
        if tag not in _PLAIN_TAGS:
            refuse("tags are not supported", line=_line(event), found=str(tag)[:60])
    if isinstance(event, yaml.ScalarEvent):
        # Quoted scalars, and plain ones with the tag "!", are text.
        is_plain = event.implicit[0] and event.tag is None
        value = _plain(event.value, _line(event)) if is_plain else event.value
        tree.scalar(value, _line(event), event.anchor)
    elif isinstance(event, yaml.MappingStartEvent):
        tree.start({}, _line(event), event.anchor)
    elif isinstance(event, yaml.SequenceStartEvent):
        tree.start([], _line(event), event.anchor)
    elif isinstance(event, (yaml.MappingEndEvent, yaml.SequenceEndEvent)):
        tree.end()


def _plain(text: str, line: int) -> JSON:
    """Return what an unquoted scalar means by YAML 1.2's core schema."""
    if text in _CONSTANTS:
        return _CONSTANTS[text]
    if _NOT_FINITE.fullmatch(text):
        refuse("a number must be finite", line=line, found=text)
    is_integer = _INTEGER.fullmatch(text) is not None
    is_other_base = _OCTAL_OR_HEX.fullmatch(text) is not None
    if not is_integer and not is_other_base and not _FLOAT.fullmatch(text):
        return text
    if len(text) > MAX_NUMBER_CHARACTERS:
        refuse(f"a number has at most {MAX_NUMBER_CHARACTERS} characters; quote text", line=line)
    if is_integer:
        return int(text)
    if is_other_base:
        return int(text, base=0)
    number = float(text)
    if number in (float("inf"), float("-inf")):
        refuse("a number must be finite", line=line, found=text)
    return number


def _line(event: yaml.Event) -> int:
    mark = event.start_mark
    return 1 if mark is None else int(mark.line) + 1
