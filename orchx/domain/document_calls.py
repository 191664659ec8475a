"""Tasks that reach outside a workflow: `call` and `run`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from orchx.domain.document import CallTask, RunWorkflowTask
from orchx.domain.document_common import CommonFields
from orchx.domain.document_context import Context
from orchx.domain.document_data import check_uri
from orchx.domain.document_expressions import is_expression
from orchx.domain.document_names import check_dns_label, check_version
from orchx.domain.document_reader import Node
from orchx.domain.document_unsupported import (
    CALLS,
    PROCESSES,
    refuse_authentication,
    refuse_call,
    refuse_cataloged_function,
    refuse_process,
)
from orchx.domain.expressions import Template

HTTP_ARGUMENTS: Final = ("method", "endpoint", "headers", "body", "query", "output", "redirect")
OPENAPI_ARGUMENTS: Final = (
    "document",
    "operationId",
    "parameters",
    "authentication",
    "output",
    "redirect",
)
OUTPUTS: Final = ("content", "raw", "response")
NO_ARGUMENTS: Final = Template(constant={}, expression=None)
_FUNCTION = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:/-]{0,254}")
_METHOD = re.compile(r"[A-Za-z]{1,32}")


def read_call(node: Node, common: CommonFields, context: Context) -> CallTask:
    """Return a `call` of a protocol or a capability; a call without `with` has no arguments."""
    call = node.required("call")
    function = "" if call is None else call.text()
    arguments = node.child("with")
    if call is not None and function:
        if function in CALLS:
            refuse_call(function, call)
        elif "://" in function or "@" in function:
            refuse_cataloged_function(call)
        elif not _FUNCTION.fullmatch(function):
            expected = "letters, digits and _ . : / -, at most 255"
            call.fail("this is not the name of a function", expected=expected)
    if function in ("http", "openapi"):
        arguments = node.required("with")
    if arguments is None or not arguments.is_object():
        return CallTask(**common, function=function, arguments=NO_ARGUMENTS)
    if function == "http":
        _check_http(arguments)
    elif function == "openapi":
        _check_openapi(arguments)
    return CallTask(**common, function=function, arguments=context.read.template(arguments))


def _check_http(node: Node) -> None:
    node.is_object(HTTP_ARGUMENTS)
    method = node.required("method")
    if method is not None and not is_expression(method.value):
        text = method.text()
        if text and not _METHOD.fullmatch(text):
            method.fail("this is not an HTTP method", expected="letters only, such as get")
    _check_endpoint(node.required("endpoint"))
    for key in ("headers", "query"):
        fields = node.child(key)
        if fields is not None and not is_expression(fields.value) and fields.is_object():
            for _, value in fields.entries():
                if value.value is None or isinstance(value.value, (Mapping, list, tuple)):
                    value.fail("this cannot be sent as text", expected="a string or a number")
    _check_result(node)


def _check_openapi(node: Node) -> None:
    node.is_object(OPENAPI_ARGUMENTS)
    document = node.required("document")
    if document is not None and document.is_object(("name", "endpoint")):
        _check_endpoint(document.required("endpoint"))
    operation = node.required("operationId")
    if operation is not None:
        operation.text()
    parameters = node.child("parameters")
    if parameters is not None and not is_expression(parameters.value):
        parameters.is_object()
    refuse_authentication(node)
    _check_result(node)


def _check_endpoint(node: Node | None) -> None:
    if node is None:
        return
    if isinstance(node.value, Mapping):
        node.is_object(("uri", "authentication"))
        check_uri(node.required("uri"))
        refuse_authentication(node)
        return
    check_uri(node)


def _check_result(node: Node) -> None:
    output = node.child("output")
    if output is not None:
        output.choice(OUTPUTS)
    redirect = node.child("redirect")
    if redirect is not None:
        redirect.boolean()


def read_run(node: Node, common: CommonFields, context: Context) -> RunWorkflowTask:
    """Return a `run` task; of the kinds of process, workflows are the one that is run."""
    placeholder = RunWorkflowTask(**common, namespace="", workflow_name="")
    run = node.required("run")
    if run is None or not run.is_object(("workflow", *PROCESSES, "await", "return")):
        return placeholder
    waits = run.child("await")
    result = run.child("return")
    if result is not None:
        result.choice(("stdout", "stderr", "code", "all", "none"))
    kind = run.exactly_one(("workflow", *PROCESSES))
    process = run.child(kind) if kind is not None else None
    if kind is None or process is None:
        return placeholder
    if not process.is_object():
        return placeholder
    if kind != "workflow":
        refuse_process(kind, process)
        return placeholder
    if result is not None:
        result.report.unsupported(result.pointer, "`return` of a workflow, which is no process,")
    return _read_workflow(process, common, context, await_=waits is None or waits.boolean())


def _read_workflow(
    node: Node, common: CommonFields, context: Context, *, await_: bool
) -> RunWorkflowTask:
    node.is_object(("namespace", "name", "version", "input"))
    version = node.child("version")
    if version is not None and version.value != "latest":
        check_version(version)
    given = node.child("input")
    data: Template | None = None
    if given is not None:
        data = context.read.template(given)
        if not is_expression(given.value):
            given.is_object()
    return RunWorkflowTask(
        **common,
        namespace=check_dns_label(node.required("namespace")),
        workflow_name=check_dns_label(node.required("name")),
        version="latest" if version is None else str(version.value),
        input=data,
        await_=await_,
    )
