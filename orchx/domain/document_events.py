"""Tasks about events: `emit` and `listen`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, cast

from orchx.domain.document import Correlation, EmitTask, EventFilter, ListenTask
from orchx.domain.document_common import CommonFields
from orchx.domain.document_context import Context
from orchx.domain.document_data import check_uri
from orchx.domain.document_expressions import is_expression, is_pattern
from orchx.domain.document_reader import Node
from orchx.domain.document_unsupported import refuse_listen_extras
from orchx.domain.expressions import Expression, Template
from orchx.domain.json_values import JSON

TEXT_ATTRIBUTES = ("id", "type", "time", "subject", "datacontenttype")
URI_ATTRIBUTES = ("source", "dataschema")
STRATEGIES = ("one", "any", "all")


def read_emit(node: Node, common: CommonFields, context: Context) -> EmitTask:
    """Return an `emit` task; `source` and `type` are what an event cannot do without."""
    event = Template(constant=None, expression=None)
    emit = node.required("emit")
    if emit is not None and emit.is_object(("event",)):
        holder = emit.required("event")
        if holder is not None and holder.is_object(("with",)):
            attributes = holder.required("with")
            if attributes is not None and attributes.is_object():
                attributes.required("source")
                attributes.required("type")
                _check_attributes(attributes)
                event = context.read.template(attributes)
    return EmitTask(**common, event=event)


def read_listen(node: Node, common: CommonFields, context: Context) -> ListenTask:
    """Return a `listen` task."""
    mode: str = "one"
    read: str = "data"
    filters: list[EventFilter] = []
    listen = node.required("listen")
    to: Node | None = None
    if listen is not None and listen.is_object(("to", "read")):
        reading = listen.child("read")
        read = "data" if reading is None else reading.choice(("data", "envelope", "raw"))
        to = listen.required("to")
    if to is not None and to.is_object((*STRATEGIES, "until")):
        mode = to.exactly_one(STRATEGIES) or mode
        filters = _read_filters(to, mode, context)
        if mode != "any" and to.child("until") is not None:
            to.fail("`until` goes with `any` only")
    refuse_listen_extras(node, to)
    return ListenTask(
        **common,
        mode=cast(Literal["one", "any", "all"], mode),
        filters=tuple(filters),
        read=cast(Literal["data", "envelope", "raw"], read),
    )


def _read_filters(to: Node, mode: str, context: Context) -> list[EventFilter]:
    strategy = to.child(mode)
    if strategy is None:
        return []
    if mode == "one":
        return [_read_filter(strategy, context)]
    nodes = strategy.items()
    if mode == "all" and strategy.value == []:
        strategy.fail("`all` needs at least one filter")
    return [_read_filter(node, context) for node in nodes]


def _read_filter(node: Node, context: Context) -> EventFilter:
    attributes: dict[str, Expression | JSON] = {}
    data: Expression | JSON = None
    if not node.is_object(("with", "correlate")):
        return EventFilter(attributes=attributes)
    wanted = node.required("with")
    if wanted is not None and wanted.is_object():
        if not wanted.value:
            wanted.fail("a filter needs at least one attribute")
        _check_attributes(wanted, in_filter=True)
        for name, attribute in wanted.entries():
            if name == "data":
                data = _read_wanted_data(attribute, context)
            elif is_pattern(attribute.value):
                attributes[name] = context.read.pattern(attribute)
            else:
                attributes[name] = _constant(attribute, context)
    return EventFilter(
        attributes=attributes,
        data=data,
        correlate=_read_correlations(node.child("correlate"), context),
    )


def _read_wanted_data(node: Node, context: Context) -> Expression | JSON:
    if is_expression(node.value):
        return context.read.expression(node)
    return _constant(node, context)


def _constant(node: Node, context: Context) -> JSON:
    """Return a value without expressions: an event is compared, not computed with."""
    if context.read.template(node).expression is not None:
        feature = "an expression in an event filter, but as the whole of `data`,"
        node.report.unsupported(node.pointer, feature)
    return node.value


def _read_correlations(node: Node | None, context: Context) -> tuple[Correlation, ...]:
    if node is None or not node.is_object():
        return ()
    correlations = []
    for name, entry in node.entries():
        entry.check_name(name)
        if not entry.is_object(("from", "expect")):
            continue
        source = entry.required("from")
        expect = entry.child("expect")
        if source is None:
            continue
        correlations.append(
            Correlation(
                name=name,
                from_=context.read.expression(source),
                expect=None if expect is None else context.read.template(expect),
            )
        )
    return tuple(correlations)


def _check_attributes(node: Node, *, in_filter: bool = False) -> None:
    if not isinstance(node.value, Mapping):
        return
    for name in TEXT_ATTRIBUTES:
        attribute = node.child(name)
        if attribute is not None:
            attribute.text()
    for name in URI_ATTRIBUTES:
        attribute = node.child(name)
        if not (in_filter and attribute is not None and is_pattern(attribute.value)):
            check_uri(attribute)
