"""Turns a JSON document into a `Definition`, or says everything that is wrong with it.

Source: CNCF Serverless Workflow DSL 1.0.0 to 1.0.3: the schema, and the rules that the
reference states in words. Its readers: `document_tasks` (what is a task), `_composites`,
`_calls`, `_events` (the task types), `_components` (`use`), `_data`, `_durations`,
`_expressions` (values), `_unsupported` (what is refused), `_limits`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Final

from orchx.domain.document import Definition
from orchx.domain.document_blocks import read_block
from orchx.domain.document_common import check_metadata
from orchx.domain.document_components import read_components
from orchx.domain.document_composites import check_functions
from orchx.domain.document_context import Context, Place
from orchx.domain.document_data import read_data_flow, read_timeout
from orchx.domain.document_limits import check_json
from orchx.domain.document_names import check_dns_label, check_version
from orchx.domain.document_reader import Node
from orchx.domain.document_report import Report
from orchx.domain.document_tasks import read_task
from orchx.domain.document_unsupported import refuse_evaluation, refuse_schedule
from orchx.domain.json_values import JSON

DSL_VERSIONS: Final = ("1.0.0", "1.0.1", "1.0.2", "1.0.3")
ROOT: Final = ("document", "input", "use", "do", "timeout", "output", "schedule", "evaluate")
HEADER: Final = ("dsl", "namespace", "name", "version", "title", "summary", "tags", "metadata")


def parse_definition(
    source: Mapping[str, JSON], lines: Mapping[str, int] | None = None
) -> Definition:
    """Return the definition that `source` describes.

    Args:
        source: the document as JSON; kept in the definition, so not to be changed later.
        lines: the 1-based line of each JSON pointer, where the source was text.

    Raises:
        InvalidDocument: it is no valid workflow; `violations` holds up to 50 reasons.
        UnsupportedFeature: it is valid, and uses what this release does not run.
    """
    report = Report(lines)
    root = Node(value=source, pointer="", report=report)
    if not check_json(source, report) or not root.is_object(ROOT):
        report.raise_if_any()
    header = _read_header(root)
    refuse_schedule(root.child("schedule"))
    refuse_evaluation(root.child("evaluate"))
    use = root.child("use")
    empty = Node(value={}, pointer="/use", report=report)
    context = Context(report=report, use=empty if use is None else use)
    read_components(context)
    check_functions(context, read_task)
    place = Place(reference="", depth=0)
    block = read_block(root.required("do"), "/do", place, context, read_task)
    data = read_data_flow(root, context)
    timeout = read_timeout(root.child("timeout"), context)
    report.raise_if_any()
    return Definition(
        namespace=header["namespace"],
        name=header["name"],
        version=header["version"],
        digest=digest(source),
        source=source,
        block=block,
        tasks=context.tasks,
        data=data,
        timeout=timeout,
        needs_sandbox=context.read.needs_sandbox,
        metadata=source["document"].get("metadata", {}),
    )


def canonical_json(value: JSON) -> bytes:
    """Return `value` as UTF-8 JSON with sorted keys and no spaces: equal values, equal bytes."""
    text = json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    )
    return text.encode()


def digest(source: Mapping[str, JSON]) -> str:
    """Return the SHA-256 of the canonical JSON of a document, in hex."""
    return hashlib.sha256(canonical_json(source)).hexdigest()


def _read_header(root: Node) -> dict[str, str]:
    header = {"namespace": "", "name": "", "version": ""}
    node = root.required("document")
    if node is None or not node.is_object(HEADER):
        return header
    dsl = node.required("dsl")
    if dsl is not None:
        text = dsl.text()
        if text and text not in DSL_VERSIONS:
            dsl.fail("this DSL version is not supported", expected=", ".join(DSL_VERSIONS))
    header["namespace"] = check_dns_label(node.required("namespace"))
    header["name"] = check_dns_label(node.required("name"))
    header["version"] = check_version(node.required("version"))
    for key in ("title", "summary"):
        member = node.child(key)
        if member is not None:
            member.text(empty=True)
    tags = node.child("tags")
    if tags is not None:
        tags.is_object()
    metadata = node.child("metadata")
    if metadata is not None:
        check_metadata(metadata)
    return header
