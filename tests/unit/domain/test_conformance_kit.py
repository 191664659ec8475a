"""The standard's conformance kit: its scenarios, read from Gherkin and run in memory.

What the scenarios call (a pet shop, an echo server) is answered by functions: how HTTP
is spoken is the task runners' business, and tested with them.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from orchx.adapters.definition_source import read_definition
from orchx.domain import events as e
from orchx.domain.faults import COMMUNICATION, WorkflowFault, standard
from orchx.domain.json_values import JSON
from orchx.errors import UnsupportedFeature
from orchx.testing.rehearsal import Outcome, rehearse

KIT = Path(__file__).parents[4] / "shared" / "data" / "serverless-workflow" / "ctk"
SCENARIO_COUNT = 21
REFUSED = {"Call HTTP Using Basic Authentication": "/do/0/login/with/endpoint/authentication"}

if not KIT.is_dir():
    pytest.skip("the conformance kit is not beside this repository", allow_module_level=True)


@dataclass(slots=True)
class Scenario:
    """One scenario: its steps, each with the YAML text below it."""

    name: str
    steps: list[tuple[str, str]] = field(default_factory=list)


def read_feature(text: str) -> Iterator[Scenario]:
    """Yield the scenarios of a feature: the part of Gherkin that the kit is written in."""
    scenario: Scenario | None = None
    block: list[str] | None = None
    for line in text.splitlines():
        stripped = line.strip()
        if stripped.startswith('"""'):
            if block is not None and scenario is not None:
                scenario.steps[-1] = (scenario.steps[-1][0], textwrap.dedent("\n".join(block)))
            block = [] if block is None else None
        elif block is not None:
            block.append(line)
        elif stripped.startswith("Scenario:"):
            if scenario is not None:
                yield scenario
            scenario = Scenario(stripped.removeprefix("Scenario:").strip())
        elif scenario is not None and stripped and not stripped.startswith("#"):
            _, _, sentence = stripped.partition(" ")
            scenario.steps.append((sentence.removeprefix("given ").rstrip(":"), ""))
    if scenario is not None:
        yield scenario


SCENARIOS = [
    scenario
    for path in sorted(KIT.glob("*.feature"))
    for scenario in read_feature(path.read_text(encoding="utf-8"))
]


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
def test_scenario(scenario: Scenario) -> None:
    definition, input_ = "", None
    outcome: Outcome | None = None
    for sentence, text in scenario.steps:
        if sentence == "a workflow with definition":
            definition = text
        elif sentence == "the workflow input is":
            input_ = yaml.safe_load(text)
        elif sentence == "the workflow is executed":
            if scenario.name in REFUSED:
                with pytest.raises(UnsupportedFeature) as caught:
                    read_definition(definition)
                assert [v.pointer for v in caught.value.violations] == [REFUSED[scenario.name]]
                return
            outcome = rehearse(read_definition(definition), input_, functions=ANSWERS)
        else:
            assert outcome is not None
            check(sentence, yaml.safe_load(text) if text else None, outcome)
    assert outcome is not None


def test_the_whole_kit_was_found() -> None:
    assert len(SCENARIOS) == SCENARIO_COUNT
    assert {scenario.name for scenario in SCENARIOS} >= REFUSED.keys()


# --- Then ----------------------------------------------------------------------------------


def check(sentence: str, value: JSON, outcome: Outcome) -> None:
    """Check what a sentence of the kit says of how the workflow ended."""
    for pattern, assertion in SENTENCES:
        match = re.fullmatch(pattern, sentence)
        if match is not None:
            assertion(outcome, value, *match.groups())
            return
    raise AssertionError(f"no meaning is known of {sentence!r}")


def completes(outcome: Outcome, value: JSON) -> None:
    assert outcome.status == "completed", outcome.error


def completes_with(outcome: Outcome, value: JSON) -> None:
    completes(outcome, value)
    assert outcome.output == value


def faults(outcome: Outcome, value: JSON) -> None:
    assert outcome.status == "faulted"


def faults_with(outcome: Outcome, value: JSON) -> None:
    faults(outcome, value)
    assert outcome.error is not None
    assert outcome.error.as_json() == value


def has_properties(outcome: Outcome, value: JSON, names: str) -> None:
    for path in re.findall(r"'([^']+)'", names):
        at(outcome.output, path)


def has_property_with(outcome: Outcome, value: JSON, path: str) -> None:
    assert at(outcome.output, path) == value


def has_items(outcome: Outcome, value: JSON, path: str, count: str) -> None:
    assert len(at(outcome.output, path)) == int(count)


def runs_first(outcome: Outcome, value: JSON, name: str) -> None:
    assert order(outcome)[0] == name


def runs_last(outcome: Outcome, value: JSON, name: str) -> None:
    assert order(outcome)[-1] == name


def runs_after(outcome: Outcome, value: JSON, name: str, other: str) -> None:
    assert order(outcome).index(name) == order(outcome).index(other) + 1


SENTENCES: list[tuple[str, Any]] = [
    ("the workflow should complete", completes),
    ("the workflow should complete with output", completes_with),
    ("the workflow should fault", faults),
    ("the workflow should fault with error", faults_with),
    (r"the workflow output should have properties (.*)", has_properties),
    (r"the workflow output should have a '(.*)' property with value", has_property_with),
    (r"the workflow output should have a '(.*)' property containing (\d+) items", has_items),
    (r"(\w+) should run first", runs_first),
    (r"(\w+) should run last", runs_last),
    (r"(\w+) should run after (\w+)", runs_after),
]


def at(value: JSON, path: str) -> JSON:
    for name in path.split("."):
        assert name in value, path
        value = value[name]
    return value


def order(outcome: Outcome) -> list[str]:
    """Return the names of the tasks in the order in which they began."""
    return [
        event.reference.rpartition("/")[2]
        for event in outcome.events
        if isinstance(event, e.TaskStarted)
        or (isinstance(event, e.TaskCompleted | e.TaskFaulted) and not event.frame)
    ]


# --- who is called -------------------------------------------------------------------------


def pet(number: int) -> JSON:
    return {"id": number, "name": f"pet {number}", "status": "available"}


def answered(method: str, uri: str, content: JSON, output: str) -> JSON:
    if output != "response":
        return content
    request = {"method": method, "uri": uri, "headers": {}}
    return {"request": request, "headers": {}, "statusCode": 200, "content": content}


def http(arguments: JSON) -> JSON:
    uri = arguments["endpoint"]["uri"]
    for name, value in arguments.get("templateVariables", {}).items():
        uri = uri.replace(f"{{{name}}}", str(value))
    assert "{" not in uri
    output = arguments.get("output", "content")
    if uri.endswith("/pet/findByStatus?status=available"):
        return answered("get", uri, [pet(1), pet(2)], output)
    found = re.fullmatch(r"https://petstore.swagger.io/v2/pet/(\d+)", uri)
    if found is None:
        raise WorkflowFault(standard(COMMUNICATION, "Not Found", status=404))
    return answered("get", uri, pet(int(found[1])), output)


def openapi(arguments: JSON) -> JSON:
    parameters, output = arguments["parameters"], arguments.get("output", "content")
    if arguments["operationId"] == "findPetsByStatus":
        assert parameters == {"status": "available"}
        return answered("get", "", [pet(1), pet(2)], output)
    assert arguments["operationId"] == "getPetById"
    return answered("get", "", pet(parameters["petId"]), output)


ANSWERS = {"http": http, "openapi": openapi}
