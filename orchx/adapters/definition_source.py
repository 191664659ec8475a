"""From a workflow document's text, YAML or JSON, to its definition."""

from __future__ import annotations

import re
from typing import Final

from orchx.adapters.input_schema import compile_input_schema
from orchx.adapters.json_source import load_json
from orchx.adapters.source_tree import SourceDocument, check_text, refuse
from orchx.adapters.yaml_source import load_yaml
from orchx.domain.document import Definition
from orchx.domain.document_parser import parse_definition
from orchx.domain.document_report import describe
from orchx.errors import InvalidRequest

UNTYPED: Final = frozenset(("", "text/plain", "application/octet-stream"))
YAML_TYPES: Final = frozenset(
    ("application/yaml", "application/x-yaml", "text/yaml", "text/x-yaml")
)
# A YAML flow mapping also begins with a brace, but its first key seldom with a quote.
_LOOKS_LIKE_JSON = re.compile(r'\s*(?:\{\s*["}]|\[)')


def read_definition(text: str | bytes, *, content_type: str | None = None) -> Definition:
    """Return the definition that `text` describes.

    Args:
        text: a document in YAML or JSON; bytes are UTF-8.
        content_type: a media type, with or without parameters; without one, or with one
            that says nothing (`text/plain`), the text itself shows what it is.

    Raises:
        TooLarge: the text is over its limit.
        InvalidDocument: it cannot be read, or is no valid workflow; no input could ever be
            held against its `input.schema`, say.
        UnsupportedFeature: it is valid, and uses what this release does not run.
        InvalidRequest: the content type is neither YAML nor JSON.
    """
    source = load_source(text, content_type=content_type)
    if not isinstance(source.value, dict):
        line = source.lines.get("")
        refuse("a workflow document is an object", line=line, found=describe(source.value))
    definition = parse_definition(source.value, source.lines)
    if definition.data.input_schema is not None:
        compile_input_schema(definition.data.input_schema.document, source.lines)
    return definition


def load_source(text: str | bytes, *, content_type: str | None = None) -> SourceDocument:
    """Return the JSON that `text` describes, with its lines; see `read_definition`."""
    media_type = (content_type or "").partition(";")[0].strip().lower()
    if media_type in UNTYPED:
        text = check_text(text)
        return load_json(text) if _LOOKS_LIKE_JSON.match(text) else load_yaml(text)
    if media_type == "application/json" or media_type.endswith("+json"):
        return load_json(text)
    if media_type in YAML_TYPES or media_type.endswith("+yaml"):
        return load_yaml(text)
    raise InvalidRequest(f"A workflow document is YAML or JSON, not {describe(media_type)}")
