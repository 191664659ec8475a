"""The standard's own examples and conformance scenarios parse, or are refused by name."""

import re
import textwrap
from pathlib import Path

import pytest

from orchx.adapters.definition_source import read_definition
from orchx.domain.document import Definition
from orchx.errors import UnsupportedFeature

STANDARD = Path(__file__).parents[4] / "shared" / "data" / "serverless-workflow"
EXAMPLES = sorted((STANDARD / "examples").glob("*.yaml"))
FEATURES = sorted((STANDARD / "ctk").glob("*.feature"))
EXAMPLE_COUNT = 66
SCENARIO_COUNT = 21

# Every example that is not run, with the places that say why.
UNSUPPORTED = {
    "authentication-bearer": {"/do/0/getPet/with/endpoint/authentication"},
    "authentication-bearer-uri-format": {"/do/0/getPet/with/endpoint/authentication"},
    "authentication-oauth2": {"/do/0/getPet/with/endpoint/authentication"},
    "authentication-oauth2-secret": {"/use/secrets", "/do/0/getPet/with/endpoint/authentication"},
    "authentication-oidc": {"/do/0/getPet/with/endpoint/authentication"},
    "authentication-oidc-secret": {"/use/secrets", "/do/0/getPet/with/endpoint/authentication"},
    "authentication-reusable": {
        "/use/authentications",
        "/do/0/getPet/with/endpoint/authentication",
    },
    "call-asyncapi-publish": {"/do/0/findPet/call"},
    "call-asyncapi-subscribe-consume-amount": {"/do/0/getNotifications/call"},
    "call-asyncapi-subscribe-consume-forever-foreach": {"/do/0/getNotifications/call"},
    "call-asyncapi-subscribe-consume-until": {"/do/0/getNotifications/call"},
    "call-asyncapi-subscribe-consume-while": {"/do/0/getNotifications/call"},
    "call-custom-function-cataloged": {"/do/0/log/call"},
    "call-grpc": {"/do/0/greet/call"},
    "call-mcp": {"/do/0/publishMessageToSlack/call"},
    "listen-to-any-forever-foreach": {
        "/do/0/listenToGossips/listen/to/until",
        "/do/0/listenToGossips/foreach",
    },
    "listen-to-any-until-condition": {"/do/0/callDoctor/listen/to/until"},
    "listen-to-any-until-consumed": {"/do/0/callDoctor/listen/to/until"},
    "mock-service-extension": {"/use/extensions"},
    "run-container": {"/do/0/runContainer/run/container"},
    "run-container-cleanup-always": {"/do/0/runContainer/run/container"},
    "run-container-cleanup-eventually": {"/do/0/runContainer/run/container"},
    "run-container-stdin-and-arguments": {"/do/1/runContainer/run/container"},
    "run-container-with-name": {"/do/0/runContainer/run/container"},
    "run-container-with-pull-policy": {"/do/0/runContainer/run/container"},
    "run-return-all": {"/do/0/runContainer/run/container"},
    "run-return-code": {"/do/0/runContainer/run/container"},
    "run-return-none": {"/do/0/runContainer/run/container"},
    "run-return-stderr": {"/do/0/runContainer/run/container"},
    "run-script-with-stdin-and-arguments": {"/do/0/runScript/run/script"},
    "run-shell-stdin-and-arguments": {"/do/1/runShell/run/shell"},
    "schedule-cron": {"/schedule"},
    "schedule-event-driven": {"/schedule"},
    "set": {"/schedule"},
    "set-expression": {"/schedule"},
}
UNSUPPORTED_SCENARIOS = {
    "Call HTTP Using Basic Authentication": {"/do/0/login/with/endpoint/authentication"}
}

needs_standard = pytest.mark.skipif(
    not STANDARD.is_dir(), reason="the standard's files are not beside the repository"
)


def scenarios() -> dict[str, str]:
    """Return the workflow of each conformance scenario, by the scenario's name."""
    found = {}
    for path in FEATURES:
        for scenario in re.split(r"^\s*Scenario:", path.read_text(), flags=re.MULTILINE)[1:]:
            quoted = re.search(r'definition:\s*\n\s*"""yaml\n(.*?)"""', scenario, re.DOTALL)
            assert quoted is not None, path
            found[scenario.splitlines()[0].strip()] = textwrap.dedent(quoted[1])
    return found


@needs_standard
def test_every_example_and_scenario_is_here() -> None:
    assert len(EXAMPLES) == EXAMPLE_COUNT
    assert len(scenarios()) == SCENARIO_COUNT
    assert {path.stem for path in EXAMPLES} >= set(UNSUPPORTED)
    assert set(scenarios()) >= set(UNSUPPORTED_SCENARIOS)


@needs_standard
@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_example_parses_or_is_refused_by_name(path: Path) -> None:
    text = path.read_text()
    if path.stem not in UNSUPPORTED:
        assert isinstance(read_definition(text), Definition)
        return
    with pytest.raises(UnsupportedFeature) as caught:
        read_definition(text)
    pointers = {violation.pointer for violation in caught.value.violations}
    assert pointers == UNSUPPORTED[path.stem]
    assert all(violation.line is not None for violation in caught.value.violations)


@needs_standard
@pytest.mark.parametrize("name", scenarios())
def test_conformance_scenario_parses(name: str) -> None:
    text = scenarios()[name]
    if name not in UNSUPPORTED_SCENARIOS:
        assert isinstance(read_definition(text, content_type="application/yaml"), Definition)
        return
    with pytest.raises(UnsupportedFeature) as caught:
        read_definition(text)
    assert {v.pointer for v in caught.value.violations} == UNSUPPORTED_SCENARIOS[name]


@needs_standard
def test_an_error_can_name_the_task_as_the_conformance_kit_does() -> None:
    definition = read_definition(scenarios()["Try Handle Caught Error"])
    assert "/do/0/tryGetPet/try/0/getPet" in definition.tasks
    assert "/do/0/tryGetPet/catch/do/0/setError" in definition.tasks
