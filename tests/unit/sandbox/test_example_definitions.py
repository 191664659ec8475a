"""The examples fit each other: documents, services, requests, and the sandbox that answers."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jq
import jsonschema_rs
import pytest
from ruamel.yaml import YAML

from orchx.sandbox.services import SERVICES

ROOT = Path(__file__).resolve().parents[3]
EXAMPLES = ROOT / "examples"
DSL_SCHEMA = ROOT.parent / "shared" / "data" / "serverless-workflow" / "schema.yaml"
DEFINITIONS = sorted((EXAMPLES / "definitions").glob("*.yaml"))
REQUESTS = sorted((EXAMPLES / "requests").glob("*.json"))
STANDARD_CALLS = {"http", "openapi"}
OPERATIONS = {
    (service.name, operation.capability): operation
    for service in SERVICES
    for operation in service.operations
}
SANDBOX_URL = "http://127.0.0.1:8610"


def load(path: Path) -> Any:
    # YAML 1.2: in 1.1 the DSL's key `on` would be a boolean.
    return YAML(typ="safe", pure=True).load(path)


def walk(node: Any) -> Iterator[Any]:
    """Yield every value in a document, from the outside in."""
    yield node
    children = node.values() if isinstance(node, dict) else node if isinstance(node, list) else ()
    for child in children:
        yield from walk(child)


def task_lists(node: Any) -> Iterator[list[dict[str, Any]]]:
    for value in walk(node):
        if isinstance(value, dict):
            for name in ("do", "try", "branches"):
                if isinstance(value.get(name), list):
                    yield value[name]


@pytest.fixture(scope="module")
def provided() -> dict[str, list[dict[str, Any]]]:
    """The entries of services.yaml by capability."""
    found: dict[str, list[dict[str, Any]]] = {}
    for service in load(EXAMPLES / "services.yaml")["services"]:
        for operation in service["operations"]:
            entry = {**operation, "service": service}
            found.setdefault(operation["capability"], []).append(entry)
    return found


@pytest.mark.parametrize("path", DEFINITIONS, ids=lambda path: path.stem)
def test_definition_is_valid_dsl(path: Path) -> None:
    if not DSL_SCHEMA.exists():
        pytest.skip("the DSL's schema.yaml is not beside this repository (../shared)")
    errors = list(jsonschema_rs.validator_for(load(DSL_SCHEMA)).iter_errors(load(path)))

    assert [f"{list(error.instance_path)}: {error.message[:300]}" for error in errors] == []


@pytest.mark.parametrize("path", DEFINITIONS, ids=lambda path: path.stem)
def test_definition_is_named_for_its_file_and_declares_its_input(path: Path) -> None:
    definition = load(path)

    assert definition["document"]["dsl"] == "1.0.3"
    assert definition["document"]["name"] == path.stem
    assert definition["document"]["namespace"] in {"hr", "finance", "it"}
    assert jsonschema_rs.meta.is_valid(definition["input"]["schema"]["document"])


@pytest.mark.parametrize("path", DEFINITIONS, ids=lambda path: path.stem)
def test_expressions_compile(path: Path) -> None:
    definition = load(path)
    names = {"context", "input", "output", "task", "workflow", "runtime", "error"}
    for value in walk(definition):
        if isinstance(value, dict):
            names |= {v for k, v in value.items() if k in {"each", "at", "as"} and is_name(v)}
    expressions = [v.strip() for v in walk(definition) if isinstance(v, str) and "${" in v]

    assert expressions
    for expression in expressions:
        assert expression.startswith("${"), expression
        assert expression.endswith("}"), expression
        jq.compile(expression[2:-1], args=dict.fromkeys(names))


def is_name(value: object) -> bool:
    return isinstance(value, str) and re.fullmatch(r"\w+", value) is not None


@pytest.mark.parametrize("path", DEFINITIONS, ids=lambda path: path.stem)
def test_calls_name_capabilities_and_arguments_that_exist(
    path: Path, provided: dict[str, list[dict[str, Any]]]
) -> None:
    calls = [v for v in walk(load(path)) if isinstance(v, dict) and "call" in v]

    for call in calls:
        if call["call"] in STANDARD_CALLS:
            assert SANDBOX_URL in json.dumps(call["with"])
            continue
        for provider in provided[call["call"]]:
            operation = OPERATIONS[provider["service"]["name"], call["call"]]
            in_path = set(re.findall(r"\{(\w+)\}", operation.path))
            assert in_path <= call["with"].keys()
            assert call["with"].keys() - in_path <= set(operation.input.__struct_fields__)


@pytest.mark.parametrize("path", DEFINITIONS, ids=lambda path: path.stem)
def test_jumps_and_dependencies_stay_in_their_list(path: Path) -> None:
    for tasks in task_lists(load(path)):
        names = {name for item in tasks for name in item}
        for item in tasks:
            (task,) = item.values()
            cases = [case for entry in task.get("switch", []) for case in entry.values()]
            jumps = {case["then"] for case in cases} | {task.get("then", "continue")}
            assert jumps <= names | {"continue", "exit", "end"}
            after = task.get("metadata", {}).get("orchx", {}).get("after", [])
            assert set(after) <= names


@pytest.mark.parametrize("path", DEFINITIONS, ids=lambda path: path.stem)
def test_waits_are_short_and_sub_workflows_exist(path: Path) -> None:
    for value in walk(load(path)):
        if isinstance(value, dict) and isinstance(value.get("wait"), dict):
            assert value["wait"].get("seconds", 0) <= 2
        if isinstance(value, dict) and isinstance(value.get("workflow"), dict):
            target = load(EXAMPLES / "definitions" / f"{value['workflow']['name']}.yaml")
            assert target["document"]["version"] == value["workflow"]["version"]


def test_the_examples_show_every_kind_of_task_once() -> None:
    text = "".join(path.read_text(encoding="utf-8") for path in DEFINITIONS)
    kinds = ("call", "do", "for", "fork", "listen", "raise", "run", "set", "switch", "try", "wait")

    assert [kind for kind in kinds if not re.search(rf"^\s+{kind}:", text, re.MULTILINE)] == []


def test_services_agree_with_what_the_sandbox_does(
    provided: dict[str, list[dict[str, Any]]],
) -> None:
    for capability, entries in provided.items():
        for entry in entries:
            service = entry["service"]
            operation = OPERATIONS[service["name"], capability]
            assert service["baseUrl"] == f"{SANDBOX_URL}/{service['name']}"
            assert (entry["method"], entry["path"], entry["operationId"]) == (
                operation.method,
                operation.path,
                operation.operation_id,
            )
    # IT's own laptops are left out, so that there are two providers to choose from.
    missing = {capability for _, capability in OPERATIONS} - provided.keys()
    assert missing == set()
    laptops = {e["service"]["name"]: e["priority"] for e in provided["it.provision-laptop"]}
    assert laptops == {"laptops-express": 10, "laptops-basic": 20}


@pytest.mark.parametrize("path", REQUESTS, ids=lambda path: path.stem)
def test_request_fits_its_definition(path: Path) -> None:
    request = json.loads(path.read_text(encoding="utf-8"))
    definition = load(EXAMPLES / "definitions" / f"{request['type']}.yaml")

    schema = definition["input"]["schema"]["document"]
    jsonschema_rs.validator_for(schema).validate(request["input"])
    assert request["tenant"] == definition["document"]["namespace"]


def test_every_type_has_a_request() -> None:
    types = {json.loads(path.read_text(encoding="utf-8"))["type"] for path in REQUESTS}

    assert types == {path.stem for path in DEFINITIONS}
