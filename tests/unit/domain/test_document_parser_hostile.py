"""Texts and values made to break the reader: each is refused, none hurts."""

import json
import re
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchx.adapters.definition_source import load_source, read_definition
from orchx.adapters.json_source import load_json
from orchx.adapters.source_tree import MAX_NODES, MAX_SOURCE_BYTES
from orchx.adapters.yaml_source import load_yaml
from orchx.domain.document_limits import MAX_EXPRESSIONS, MAX_JSON_NODES
from orchx.domain.document_parser import parse_definition
from orchx.errors import CallerError, InvalidDocument, InvalidRequest, TooLarge

HEADER = {"dsl": "1.0.3", "namespace": "test", "name": "sample", "version": "0.1.0"}
BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 9)}]\n"
    for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)
HOSTILE_YAML = {
    "alias bomb": (BOMB, "values"),
    "long text, many aliases": (f"a: &a {'x' * 200_000}\nb: [{'*a, ' * 99}*a]", "characters of"),
    "anchor in itself": ("a: &a [*a]", "inside its own anchor"),
    "alias without anchor": ("a: *b", "alias"),
    "merge key": ("a: &a {b: 1}\nc:\n  <<: *a", "merge keys"),
    "python object": ("a: !!python/object/apply:os.system ['true']", "tags"),
    "python name": ("a: !!python/name:os.system", "tags"),
    "own tag": ("!mine {a: 1}", "tags"),
    "standard tag": ("a: !!str 1", "tags"),
    "binary": ("a: !!binary aGk=", "tags"),
    "duplicate key": ("a: 1\nb: 2\na: 3", "twice, first in line 1"),
    "number as key": ("1: a", "quote it"),
    "null as key": ("~: a", "quote it"),
    "boolean as key": ("true: a", "quote it"),
    "array as key": ("[a]: b", "must be text"),
    "two documents": ("a: 1\n---\nb: 2", "more than one document"),
    "infinity": ("a: .inf", "finite"),
    "not a number": ("a: .NaN", "finite"),
    "too large a float": ("a: 1e999", "finite"),
    "huge integer": ("a: " + "9" * 5_000, "characters"),
    "nothing": ("", "empty"),
    "only comments": ("# nothing\n", "empty"),
    "not YAML": ("a: [", "not YAML"),
    "tab": ("a:\n\t- b", "not YAML"),
    "control character": ("a: \x01", "not YAML"),
    "NUL": ("a: \0", "NUL"),
    "NUL, escaped": ('{"a": "\\0"}', ""),
    "surrogate": ("a: \ud800", "surrogate"),
    "deep": ("[" * 100_000, "levels deep"),
    "deep blocks": ("\n".join(" " * n + "a:" for n in range(300)), "levels deep"),
    "deep keys": ("? " * 50_000, "must be text"),
    "array": ("- a", "an object"),
    "text": ("hello", "an object"),
}
HOSTILE_JSON = {
    "deep": ("[" * 100_000, "levels deep"),
    "deep objects": ('{"a":' * 50_000, "levels deep"),
    "deep and closed": ("[" * 100_000 + "]" * 100_000, "levels deep"),
    "duplicate key": ('{"a": 1,\n "a": 2}', "twice, first in line 1"),
    "NaN": ('{"a": NaN}', "not JSON"),
    "infinity": ('{"a": -Infinity}', "not JSON"),
    "too large a float": ('{"a": 1e999}', "finite"),
    "huge integer": ('{"a": ' + "9" * 5_000 + "}", "characters"),
    "NUL": ('{"a": "\0"}', "NUL"),
    "control character": ('{"a": "\x01"}', "not JSON"),
    "comma too many": ('{"a": 1,}', "not JSON"),
    "comma first": ("[,1]", "not JSON"),
    "no colon": ('{"a" 1}', "not JSON"),
    "two values": ("{} {}", "not JSON"),
    "wrong end": ('{"a": [1}', "not JSON"),
    "end missing": ('{"a": [1', "too early"),
    "value missing": ('{"a":', "too early"),
    "string without end": ('{"a', "not JSON"),
    "backslashes": ('{"' + "\\" * 200_000, "not JSON"),
    "bad escape": ('{"a": "\\x"}', "not JSON"),
    "single quotes": ("{'a': 1}", "not JSON"),
    "leading zero": ('{"a": 01}', "not JSON"),
    "comment": ("{} // x", "not JSON"),
    "nothing": ("", "too early"),
    "blanks": (" " * 200_000, "too early"),
    "blanks before rubbish": (" " * 200_000 + "x", "not JSON"),
}


@pytest.mark.parametrize("case", HOSTILE_YAML)
def test_hostile_yaml(case: str) -> None:
    text, part = HOSTILE_YAML[case]
    with pytest.raises(InvalidDocument) as caught:
        read_definition(text, content_type="application/yaml")
    assert part in str(caught.value)
    with pytest.raises(InvalidDocument):
        read_definition(text)


@pytest.mark.parametrize("case", HOSTILE_JSON)
def test_hostile_json(case: str) -> None:
    text, part = HOSTILE_JSON[case]
    with pytest.raises(InvalidDocument) as caught:
        load_json(text)
    assert part in str(caught.value)


@pytest.mark.parametrize("load", [load_yaml, load_json, read_definition])
def test_too_long_a_text(load: Any) -> None:
    with pytest.raises(TooLarge):
        load("x" * 10_000_000)
    with pytest.raises(TooLarge):
        load("ä" * (MAX_SOURCE_BYTES // 2 + 1))
    with pytest.raises(TooLarge):
        load(b" " * (MAX_SOURCE_BYTES + 1))


def test_bytes_that_are_not_utf8() -> None:
    with pytest.raises(InvalidDocument, match=r"line 2\): the text is not UTF-8"):
        read_definition(b"a: b\nc: \xff\xfe")


def test_too_many_values() -> None:
    text = "[" + "1," * MAX_NODES + "1]"
    with pytest.raises(InvalidDocument, match="values"):
        load_json(text)
    with pytest.raises(InvalidDocument, match="values"):
        load_yaml(text)
    with pytest.raises(InvalidDocument, match="values"):
        parse_definition({"do": [1] * MAX_JSON_NODES})


def test_too_many_expressions() -> None:
    many = [f"${{ .a{index} }}" for index in range(MAX_EXPRESSIONS + 1)]
    inside = {"document": HEADER, "do": [{"a": {"set": {"x": many}}}]}
    with pytest.raises(InvalidDocument, match="expressions"):
        parse_definition(inside)
    cases = [{f"c{index}": {"when": f".a{index}", "then": "end"}} for index in range(len(many))]
    bare = {"document": HEADER, "do": [{"a": {"switch": cases}}]}
    with pytest.raises(InvalidDocument, match="expressions"):
        parse_definition(bare)


HOSTILE_VALUES: dict[str, Any] = {
    "every property unknown": {"document": HEADER, **{f"do{i:030}": 1 for i in range(40_000)}},
    "every branch after one that is not there": {
        "document": HEADER,
        "do": [
            {
                "a": {
                    "fork": {
                        "branches": [
                            {f"{i}": {"set": ".", "metadata": {"orchx": {"after": ["x"] * 20}}}}
                            for i in range(1_500)
                        ]
                    }
                }
            }
        ],
    },
    "a long chain of branches": {
        "document": HEADER,
        "do": [
            {
                "a": {
                    "fork": {
                        "branches": [
                            {f"{i}": {"set": ".", "metadata": {"orchx": {"after": [f"{i - 1}"]}}}}
                            for i in range(1_900)
                        ]
                    }
                }
            }
        ],
    },
    "every directive wrong": {
        "document": HEADER,
        "do": [{f"t{i}": {"set": ".", "then": f"u{i}"}} for i in range(1_900)],
    },
    "many functions that fan out": {
        "document": HEADER,
        "use": {
            "functions": {
                f"f{i}": {"do": [{f"t{j}": {"call": f"f{i + 1}"}} for j in range(40)]}
                for i in range(40)
            }
        },
        "do": [{f"t{i}": {"call": "f0"}} for i in range(100)],
    },
}


@pytest.mark.parametrize("case", HOSTILE_VALUES)
def test_hostile_documents_are_refused_soon(case: str) -> None:
    started = time.perf_counter()
    with pytest.raises(InvalidDocument):
        parse_definition(HOSTILE_VALUES[case])
    # What is refused must not cost more than what is run.
    assert time.perf_counter() - started < 5


def test_yaml_means_what_version_1_2_says() -> None:
    text = """
        on: yes
        date: 2024-01-01
        version: 1.0.0
        time: 1:30
        octal: [010, 0o10, 0x1F]
        numbers: [1, -1, +1, 1.5, .5, 1., 1e3, 1_000]
        words: [true, False, null, ~, Null, no, off]
        text: ['1', "true", ! 1]
        empty:
        alias: [&a {b: c}, *a]
    """
    assert load_yaml(text).value == {
        "on": "yes",
        "date": "2024-01-01",
        "version": "1.0.0",
        "time": "1:30",
        "octal": [10, 8, 31],
        "numbers": [1, -1, 1, 1.5, 0.5, 1.0, 1000.0, "1_000"],
        "words": [True, False, None, None, None, "no", "off"],
        "text": ["1", "true", "1"],
        "empty": None,
        "alias": [{"b": "c"}, {"b": "c"}],
    }


def test_byte_order_mark_and_content_types() -> None:
    assert load_source('\ufeff{"a": 1}').value == {"a": 1}
    assert load_source(b"\xef\xbb\xbfa: 1").value == {"a": 1}
    assert load_source("{a: 1}").value == {"a": 1}
    assert load_source("a: 1", content_type="text/yaml; charset=utf-8").value == {"a": 1}
    assert load_source("{}", content_type="application/problem+json").value == {}
    with pytest.raises(InvalidRequest):
        load_source("{}", content_type="image/png")


json_scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text()
json_values = st.recursive(
    json_scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)
# Words of the DSL, so that what is drawn gets past the first checks.
WORDS = """
    document dsl namespace name version metadata orchx after use errors retries timeouts functions
    do for each in at while fork branches compete try catch with as when retry delay backoff
    linear limit attempt count jitter from to switch then end set raise error wait seconds
    listen one any all emit event run workflow call http endpoint uri if input output export
    schema format timeout type status correlate expect 1.0.3 1.0.0 PT1S . ${.a} ${ x
"""
words = st.sampled_from(re.findall(r"\S+", WORDS))
dsl_values = st.recursive(
    json_scalars | words,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(words, inner, max_size=5),
    max_leaves=30,
)
tasks = st.dictionaries(words, dsl_values, min_size=1, max_size=4)


@given(source=json_values | dsl_values)
def test_any_json_parses_or_is_refused(source: Any) -> None:
    _parse_or_refuse(source)


@settings(max_examples=300)
@given(
    block=st.lists(st.dictionaries(words, tasks, min_size=1, max_size=1), max_size=4),
    use=st.dictionaries(words, dsl_values, max_size=4),
    functions=st.dictionaries(words, tasks, max_size=3),
)
def test_any_tasks_parse_or_are_refused(
    block: list[Any], use: dict[str, Any], functions: dict[str, Any]
) -> None:
    _parse_or_refuse({"document": HEADER, "do": block, "use": {**use, "functions": functions}})


@given(value=json_values)
def test_json_is_read_as_the_standard_library_reads_it(value: Any) -> None:
    text = json.dumps(value)
    try:
        read = load_json(text).value
    except InvalidDocument:
        return  # infinite, or too long a number
    assert read == json.loads(text)


@given(text=st.text() | st.text("{}[]:,-&*!|>'\"\\# \n\tab01.~"))
def test_any_text_is_read_or_refused(text: str) -> None:
    for load in (load_yaml, load_json, read_definition):
        try:
            load(text)
        except CallerError:
            continue


@given(data=st.binary())
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    try:
        read_definition(data)
    except CallerError:
        return


def _parse_or_refuse(source: Any) -> None:
    try:
        parse_definition(source)
    except CallerError as error:
        pointers = [violation.pointer for violation in error.violations]
    else:
        pointers = [""]
    assert pointers
    assert all(pointer == "" or pointer.startswith("/") for pointer in pointers)
