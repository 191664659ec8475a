"""Whether a workflow's `input.schema` can be used, found out before anything runs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import jsonschema_rs

from orchx.domain.document_report import Report, describe, escape
from orchx.domain.json_values import JSON

POINTER: Final = "/input/schema/document"
MAX_MESSAGE_CHARS: Final = 200
_EXPECTED: Final = "a JSON schema without outside references or look-around patterns"
# The linear-time engine: a schema's pattern must not be able to hang on an input.
_PATTERNS: Final = jsonschema_rs.RegexOptions()


def compile_input_schema(
    document: JSON, lines: Mapping[str, int] | None = None
) -> jsonschema_rs.Validator:
    """Return what checks inputs against a definition's input schema.

    Args:
        document: the schema itself.
        lines: the 1-based source line of each JSON pointer into the definition.

    Raises:
        InvalidDocument: it is not a JSON schema that can be used here.
    """
    try:
        return jsonschema_rs.validator_for(
            document, retriever=_never_fetch, pattern_options=_PATTERNS, mask="the value"
        )
    except (ValueError, TypeError, jsonschema_rs.ReferencingError) as error:
        report = Report(lines)
        _record(report, error)
        report.raise_if_any()
        raise


def _record(report: Report, error: Exception) -> None:
    if not isinstance(error, jsonschema_rs.ValidationError):
        report.invalid(POINTER, _printable(str(error)), expected=_EXPECTED)
        return
    where = "".join(f"/{escape(str(part))}" for part in error.instance_path)
    found = describe(error.instance) if where else None
    report.invalid(POINTER + where, _printable(error.message), found=found, expected=_EXPECTED)


def _printable(text: str) -> str:
    if len(text) > MAX_MESSAGE_CHARS:
        text = text[: MAX_MESSAGE_CHARS - 1] + "…"
    return text.encode("utf-8", "replace").decode()


def _never_fetch(uri: str) -> JSON:
    raise ValueError(f"the schema refers to {uri}, which is outside of the document")
