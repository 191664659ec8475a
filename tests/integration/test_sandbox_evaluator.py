"""Hostile expressions end in a fault within the limits, and disturb nobody else."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from orchx.adapters.sandbox_evaluator import EvaluatorLimits, SandboxEvaluator
from orchx.adapters.sandbox_process import ChildTimeout, SandboxProcess
from orchx.domain.expressions import parse_expression, parse_template
from orchx.domain.faults import EXPRESSION, Fault, WorkflowFault
from orchx.errors import Unavailable
from orchx.ports.evaluator import Evaluator, WouldBlock
from orchx.testing.in_process_evaluator import InProcessEvaluator

WALL_MS = 1_000
SLACK_S = 5.0  # to kill, to start a child, and for a busy machine
GOOD = parse_expression(". as $x | $x.a + $y")  # not bounded, so it needs a child as well


@pytest.fixture
def sandbox() -> Iterator[SandboxEvaluator]:
    evaluator = SandboxEvaluator(EvaluatorLimits(wall_ms=WALL_MS))
    yield evaluator
    evaluator.close()


def fault_of(evaluator: Evaluator, text: str, data: Any = None) -> Fault:
    with pytest.raises(WorkflowFault) as caught:
        evaluator.evaluate(parse_expression(text), data, {})
    return caught.value.fault


HOSTILE = [
    ("last(range(1e12))", None, "ran longer"),
    ("[range(1e9)]", None, "ran longer|memory"),
    ("def f: f; f", None, "ran longer"),
    ("def f: 1 + f; f", None, "ran longer|memory"),
    ("def f: [f]; f", None, "ran longer|memory"),
    ('"x" * 1e9', None, "memory"),
    ('test("^(([a-z])+.)+[A-Z]([a-z])+$")', "a" * 60, "failed|ran longer"),
    ("[.[] as $a | .[] as $b | .[] as $c | 1]", [1] * 3000, "ran longer|memory"),
    ('"x" * 2000000', None, "result is over|ran longer"),
    ("[range(400000)]", None, "result is over|ran longer"),
    ("[recurse([., .])]", 1, "ran longer|memory"),
    ("reduce range(1e7) as $i (0; [.])", None, "ran longer|memory|deep"),
]


@pytest.mark.parametrize(("text", "data", "title"), HOSTILE, ids=[text for text, _, _ in HOSTILE])
def test_a_hostile_expression_faults_and_others_go_on(
    sandbox: SandboxEvaluator, text: str, data: Any, title: str
) -> None:
    started = threading.Event()

    def good() -> Any:
        started.wait()
        return [sandbox.evaluate(GOOD, {"a": n}, {"y": 1}) for n in range(20)]

    with ThreadPoolExecutor(1) as pool:
        others = pool.submit(good)
        begun = time.monotonic()
        started.set()
        with pytest.raises(WorkflowFault, match=EXPRESSION) as caught:
            sandbox.evaluate(parse_expression(text), data, {})
        took_s = time.monotonic() - begun
        assert others.result() == [n + 1 for n in range(20)]
    assert caught.value.fault.status == 400
    assert any(part in caught.value.fault.title for part in title.split("|"))
    assert took_s < WALL_MS / 1000 + SLACK_S


def test_bounded_expressions_need_no_child(sandbox: SandboxEvaluator) -> None:
    assert sandbox.evaluate(parse_expression(".a | length"), {"a": [1, 2]}, {}) == 2
    assert sandbox.evaluate(parse_expression(".a"), {"a": "x" * 100_000}, {}) == "x" * 100_000
    assert sandbox.idle_pids == ()


def test_large_data_goes_to_a_child_even_if_the_expression_is_bounded(
    sandbox: SandboxEvaluator,
) -> None:
    assert sandbox.evaluate(parse_expression("map(. + 1) | add"), [1] * 20_000, {}) == 40_000
    assert len(sandbox.idle_pids) == 1


@pytest.mark.parametrize(
    ("text", "data"),
    [(". as $x | $x", 1), ("map(. + 1)", [1] * 20_000), ("{a: .[0], n: length}", ["x" * 17_000])],
)
def test_who_must_not_block_gets_no_child(sandbox: SandboxEvaluator, text: str, data: Any) -> None:
    with pytest.raises(WouldBlock):
        sandbox.evaluate(parse_expression(text), data, {}, may_block=False)
    assert sandbox.idle_pids == ()


def test_who_must_not_block_gets_what_is_cheap(sandbox: SandboxEvaluator) -> None:
    large = {"a": "x" * 100_000}
    assert sandbox.evaluate(parse_expression(".a"), large, {}, may_block=False) == large["a"]
    assert sandbox.evaluate(parse_expression("map(. + 1)"), [1], {}, may_block=False) == [2]
    assert sandbox.idle_pids == ()


def test_both_tiers_agree_with_the_evaluator_of_the_tests(sandbox: SandboxEvaluator) -> None:
    data = {"a": 2**60 + 1, "b": [1.5, None, "é😀"]}
    for text in ("{a, b}", "[.b[] as $x | $x]", "empty", "[empty] | .[0]", ". as $x | $x"):
        expression = parse_expression(text)
        expected = InProcessEvaluator().evaluate(expression, data, {})
        assert sandbox.evaluate(expression, data, {}) == expected
    template = parse_template({"n": "${ [range(3)] }", "t": "a ${ .b[2] }"}).expression
    assert template is not None
    assert sandbox.evaluate(template, data, {}) == {"n": [0, 1, 2], "t": "a é😀"}


def test_faults_of_jq_come_through(sandbox: SandboxEvaluator) -> None:
    assert fault_of(sandbox, 'error("no \\(1 + 1)")').detail == "no 2"
    assert fault_of(sandbox, "$gone as $x | $x").detail == "$gone is not available here"


def test_a_child_that_is_killed_from_outside_is_replaced(sandbox: SandboxEvaluator) -> None:
    for number in (signal.SIGKILL, signal.SIGTERM, signal.SIGKILL):
        assert sandbox.evaluate(GOOD, {"a": 1}, {"y": 1}) == 2
        (pid,) = sandbox.idle_pids
        os.kill(pid, number)
        assert sandbox.evaluate(GOOD, {"a": 1}, {"y": 2}) == 3
        assert pid not in sandbox.idle_pids


def test_a_killed_child_leaves_no_place_taken() -> None:
    sandbox = SandboxEvaluator(EvaluatorLimits(children=1, wall_ms=300, wait_ms=5_000))
    for _ in range(3):
        assert "ran longer" in fault_of(sandbox, "last(range(1e12))").title
    assert sandbox.evaluate(GOOD, {"a": 1}, {"y": 1}) == 2
    sandbox.close()


def test_waiting_for_a_child_is_bounded() -> None:
    sandbox = SandboxEvaluator(EvaluatorLimits(children=1, wall_ms=1_000, wait_ms=50))
    ends: list[str] = []

    def hostile() -> None:
        try:
            ends.append(fault_of(sandbox, "last(range(1e12))").title)
        except Unavailable as error:  # nothing is wrong with the workflow: it is decided later
            ends.append(error.detail)

    with ThreadPoolExecutor(2) as pool:
        for one in [pool.submit(hostile), pool.submit(hostile)]:
            one.result()
    assert sorted(ends) == [
        "Expression ran longer than 1000 ms",
        "all expression evaluators are busy",
    ]
    sandbox.close()


def test_a_busy_pool_is_not_the_expressions_fault() -> None:
    sandbox = SandboxEvaluator(EvaluatorLimits(children=0, wait_ms=1))
    with pytest.raises(Unavailable, match="busy"):
        fault_of(sandbox, "[range(3)]")


def test_worn_children_are_replaced() -> None:
    sandbox = SandboxEvaluator(EvaluatorLimits(evaluations_per_child=2))
    pids: set[int] = set()
    for n in range(4):
        assert sandbox.evaluate(GOOD, {"a": n}, {"y": 0}) == n
        pids.update(sandbox.idle_pids)
    assert len(pids) == 2
    sandbox.close()


def test_too_much_input_is_a_fault() -> None:
    sandbox = SandboxEvaluator(EvaluatorLimits(input_bytes=100))
    assert "input is over 100 bytes" in fault_of(sandbox, "[.]", "x" * 200).title


def test_the_output_limit_holds_in_both_tiers() -> None:
    small = SandboxEvaluator(EvaluatorLimits(output_bytes=100))
    expression = ". * 16"
    assert parse_expression(expression).bounded
    assert "result is over" in fault_of(small, expression, "x" * 50).title
    assert "result is over" in fault_of(small, '"x" * 200').title
    small.close()


def test_large_frames_go_both_ways(sandbox: SandboxEvaluator) -> None:
    data = ["é" * 100] * 2_000
    assert sandbox.evaluate(parse_expression(". as $x | $x"), data, {}) == data


def test_after_close_nothing_is_evaluated_and_no_child_is_left(sandbox: SandboxEvaluator) -> None:
    sandbox.evaluate(GOOD, {"a": 1}, {"y": 1})
    (pid,) = sandbox.idle_pids
    sandbox.close()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    with pytest.raises(Unavailable):
        sandbox.evaluate(GOOD, {"a": 1}, {"y": 1})


def test_a_child_has_no_environment_and_no_foreign_descriptors(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SECRET_OF_THE_TEST", "hush")
    child = SandboxProcess(EvaluatorLimits())
    with open(f"/proc/{child.pid}/environ", "rb") as environ:
        assert environ.read() == b""
    assert sorted(os.listdir(f"/proc/{child.pid}/fd")) == ["0", "1", "2"]
    # even if an expression that reads the environment came this far
    status, environment = child.ask(b"env | tojson", b"null", 5_000)
    assert status == b"v"
    assert set(json.loads(environment)) <= {"LC_CTYPE"}  # Python sets it at its start
    child.kill()


def test_a_child_ends_when_its_parent_closes_the_pipe() -> None:
    child = SandboxProcess(EvaluatorLimits())
    os.close(os.dup(child._to))  # a copy that is closed again does not end it
    assert child.ask(b"1 | tojson", b"null", 5_000) == (b"v", b"1")
    assert child._process.stdin is not None
    child._process.stdin.close()
    assert child._process.wait(timeout=5) == 0
    child.kill()


def test_the_kernel_ends_a_child_that_the_engine_forgot() -> None:
    child = SandboxProcess(EvaluatorLimits(cpu_s=1))
    try:
        with pytest.raises(ChildTimeout):
            child.ask(b"last(range(1e12)) | tojson", b"null", 10)
        assert child._process.wait(timeout=20) == -signal.SIGXCPU
    finally:
        child.kill()
