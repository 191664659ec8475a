"""How data is described and transformed: schemas, `input`, `output`, `export`, URIs, timeouts."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from orchx.domain.document import NO_DATA_FLOW, DataFlow, Duration, Schema
from orchx.domain.document_context import Context
from orchx.domain.document_durations import iso8601_ms, read_duration
from orchx.domain.document_expressions import is_expression
from orchx.domain.document_reader import Node
from orchx.domain.document_unsupported import refuse_schema
from orchx.domain.expressions import Template

JSON_FORMAT: Final = re.compile(r"json(:.+)?")  # `json`, or with a draft: `json:2020-12`
_URI = re.compile(r"[A-Za-z][A-Za-z0-9+\-.]*://\S*")


def read_data_flow(node: Node, context: Context) -> DataFlow:
    """Return the `input`, `output` and `export` of a task or workflow."""
    input_schema, input_from = _read_step(node.child("input"), "from", context)
    output_schema, output_as = _read_step(node.child("output"), "as", context)
    export_schema, export_as = _read_step(node.child("export"), "as", context)
    flow = DataFlow(
        input_schema=input_schema,
        input_from=input_from,
        output_schema=output_schema,
        output_as=output_as,
        export_schema=export_schema,
        export_as=export_as,
    )
    return NO_DATA_FLOW if flow == NO_DATA_FLOW else flow


def _read_step(
    node: Node | None, transformation: str, context: Context
) -> tuple[Schema | None, Template | None]:
    if node is None or not node.is_object(("schema", transformation)):
        return None, None
    change = node.child(transformation)
    schema = node.child("schema")
    return (
        None if schema is None else read_schema(schema),
        None if change is None else context.read.transformation(change),
    )


def read_schema(node: Node) -> Schema | None:
    """Return the inline JSON schema at `node`, or None where it is refused.

    That it is an object or a boolean is all that is checked here.
    """
    if not node.is_object(("format", "document", "resource")):
        return None
    language = node.child("format")
    if language is not None:
        text = language.text()
        if text and not JSON_FORMAT.fullmatch(text):
            refuse_schema(language, "a schema format other than json")
    given = node.exactly_one(("document", "resource"))
    if given == "resource":
        refuse_schema(node, "an external schema")
    document = node.child("document")
    if given != "document" or document is None:
        return None
    if not isinstance(document.value, (Mapping, bool)):
        document.fail("this is not a JSON schema", expected="an object, true or false")
        return None
    return Schema(document=document.value)


def check_uri(node: Node | None) -> None:
    """Record it if there is a value at `node` that is neither a URI template nor an expression."""
    if node is None or is_expression(node.value):
        return
    text = node.text()
    if text and "${" not in text and not _URI.fullmatch(text):
        node.fail("this is not a URI", expected="scheme://..., or an expression ${ ... }")


def read_timeout(node: Node | None, context: Context) -> Duration | None:
    """Return the timeout at `node`: a definition, or the name of a reusable one."""
    if node is None:
        return None
    if not isinstance(node.value, str):
        return read_timeout_definition(node, context)
    name = node.value
    if name in context.timeouts:
        return context.timeouts[name]
    if name not in context.declared("timeouts"):
        hint = f"; to give a duration, write {{after: {name}}}" if _is_duration(name) else ""
        context.unknown_reference(node, "timeouts", hint)
    return None


def read_timeout_definition(node: Node, context: Context) -> Duration | None:
    """Return the duration of `{after: ...}`, which must be longer than nothing."""
    if not node.is_object(("after",)):
        return None
    return read_duration(node.required("after"), context.read, positive=True)


def _is_duration(text: str) -> bool:
    try:
        iso8601_ms(text)
    except ValueError:
        return False
    return True
