"""Random workflow documents from a seed: small, and of every task type.

Expressions come from a small fixed set, so that each is compiled once per process. The
data that flows keeps one shape (`n`, `flag`, `items`), so that most of them succeed.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from typing import Any, Final

from orchx.domain.environment import CallTarget
from orchx.domain.services import Operation, Service
from orchx.testing.simulated_services import REJECTING, SECRET_MARKER

NAMESPACE: Final = "sim"
VERSION: Final = "1.0.0"
EVENT_TYPES: Final = ("sim.a", "sim.b", "sim.c")
EVENT_KINDS: Final = 3
"""The driver's events have `n` from 0 to below this, which some listeners ask for."""

MAX_DEPTH: Final = 3
MAX_TASKS: Final = 14

FUNCTIONS: Final[Mapping[str, CallTarget]] = {
    "fn.a": CallTarget(kind="function"),
    "fn.b": CallTarget(kind="function", timeout_ms=1_500),
    "fn.other": CallTarget(kind="function", pool="other"),
    REJECTING: CallTarget(kind="function"),
}
CAPABILITIES: Final = ("cap.one", "cap.many")
CALLABLE: Final = (*FUNCTIONS, *CAPABILITIES, "fn.nobody-provides")
CALL_WEIGHTS: Final = (6, 3, 3, 1, 4, 5, 0.2)

KEEP: Final[Mapping[str, Any]] = {"as": "${ $input }"}
ERRORS: Final = "https://serverlessworkflow.io/spec/1.0.0/errors/"


def services() -> list[Service]:
    """Return the services that provide the capabilities, with limits of different kinds."""

    def service(name: str, *capabilities: str, **limits: Any) -> Service:
        return Service(
            name=name,
            base_url=f"https://user:{SECRET_MARKER}@{name}.example",
            bearer_env=SECRET_MARKER,
            operations=[Operation(capability=c) for c in capabilities],
            **limits,
        )

    return [
        service("plain", "cap.one", "cap.many", timeout_ms=2_000),
        service("narrow", "cap.many", concurrency=1, rate_per_s=20.0, timeout_ms=3_000),
        service("brittle", "cap.many", breaker_failures=2, breaker_open_ms=1_000, queue_limit=3),
    ]


class RandomWorkflows:
    """Draws documents; a later one may run earlier ones as children, so that none recurs."""

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance
        self._children: list[str] = []
        self._left = 0
        self._kinds: tuple[tuple[Callable[[int], dict[str, Any]], float], ...] = (
            (self._call, 7),
            (self._set, 2),
            (self._wait, 1.5),
            (self._switch, 1),  # placed by `_block`, which knows the names to jump to
            (self._do, 1),
            (self._for, 1.2),
            (self._fork, 2),
            (self._try, 3),
            (self._raise, 0.4),
            (self._listen, 1),
            (self._emit, 1.2),
            (self._run, 1.5),
        )

    def documents(self, count: int) -> list[dict[str, Any]]:
        """Return `count` documents named `w0`, `w1`, ..."""
        documents = []
        for number in range(count):
            name = f"w{number}"
            documents.append(self._document(name))
            self._children.append(name)
        return documents

    def input(self) -> dict[str, Any]:
        """Draw the input of a workflow."""
        chance = self._chance
        items = [1, 2, 3][: chance.randrange(4)]
        return {"n": chance.randrange(7), "flag": chance.random() < 0.5, "items": items}

    def _document(self, name: str) -> dict[str, Any]:
        self._left = self._chance.choice((3, 5, 8, MAX_TASKS))
        document: dict[str, Any] = {
            "document": {"dsl": "1.0.3", "namespace": NAMESPACE, "name": name, "version": VERSION},
            "do": self._block(0),
        }
        if self._chance.random() < 0.1:
            document["timeout"] = {"after": {"seconds": self._chance.choice((1, 5, 30))}}
        if self._chance.random() < 0.1:
            document["output"] = {"as": "${ . }"}
        return document

    def _block(self, depth: int) -> list[dict[str, Any]]:
        chance = self._chance
        count = chance.choice((1, 1, 2, 3) if depth else (1, 2, 3, 5))
        names = [f"t{index}" for index in range(count)]
        tasks: list[dict[str, Any]] = []
        for index, name in enumerate(names):
            task = self._task(depth)
            onward = [*names[index + 1 :], "continue", "exit" if depth else "end"]
            if "switch" in task:
                for case in task["switch"]:
                    next(iter(case.values()))["then"] = chance.choice(onward)
            elif chance.random() < 0.08:
                task["then"] = chance.choice(onward)
            tasks.append({name: task})
        return tasks

    def _task(self, depth: int) -> dict[str, Any]:
        chance = self._chance
        makers = [make for make, _ in self._kinds]
        make = chance.choices(makers, [weight for _, weight in self._kinds])[0]
        if self._left <= 0 or depth >= MAX_DEPTH:
            make = chance.choice((self._set, self._call, self._wait))
        self._left -= 1
        task = make(depth)
        if chance.random() < 0.1:
            task["if"] = chance.choice(("${ .flag }", "${ .n }", "${ $context.flag }"))
        if chance.random() < 0.08:
            task["timeout"] = {"after": {"milliseconds": chance.choice((5, 300, 1_500, 6_000))}}
        if chance.random() < 0.1:
            task["input"] = {"from": chance.choice(("${ . }", "${ $context }"))}
        if chance.random() < 0.1:
            task["export"] = {"as": chance.choice(("${ . }", "${ $input }"))}
        return task

    def _set(self, depth: int) -> dict[str, Any]:
        flag = self._chance.random() < 0.5
        return {"set": {"n": "${ .n }", "flag": flag, "items": [1, 2]}}

    def _call(self, depth: int) -> dict[str, Any]:
        task: dict[str, Any] = {
            "call": self._chance.choices(CALLABLE, CALL_WEIGHTS)[0],
            "with": {"n": "${ .n }", "fixed": 1},
        }
        if self._chance.random() < 0.3:
            task["output"] = dict(KEEP)
        return task

    def _wait(self, depth: int) -> dict[str, Any]:
        return {"wait": {"milliseconds": self._chance.choice((0, 1, 40, 400, 2_500, 5_000))}}

    def _switch(self, depth: int) -> dict[str, Any]:
        cases: list[dict[str, Any]] = [{"yes": {"when": "${ .flag }", "then": "continue"}}]
        if self._chance.random() < 0.5:
            cases.append({"else": {"then": "continue"}})
        return {"switch": cases}

    def _do(self, depth: int) -> dict[str, Any]:
        return {"do": self._block(depth + 1)}

    def _for(self, depth: int) -> dict[str, Any]:
        loop: dict[str, Any] = {"in": self._chance.choice(("${ .items }", "${ $input.items }"))}
        task: dict[str, Any] = {"for": loop, "do": self._block(depth + 1), "output": dict(KEEP)}
        if self._chance.random() < 0.3:
            task["while"] = self._chance.choice(("${ .flag }", "${ $index < 2 }"))
        return task

    def _fork(self, depth: int) -> dict[str, Any]:
        chance = self._chance
        count = chance.choice((1, 2, 2, 3))
        branches: list[dict[str, Any]] = []
        compete = chance.random() < 0.35
        for index in range(count):
            branch = self._task(depth + 1)
            if "switch" in branch:
                branch = self._set(depth)
            if index and not compete and chance.random() < 0.4:
                after = sorted({f"b{chance.randrange(index)}" for _ in range(2)})
                branch["metadata"] = {"orchx": {"after": after}}
            branches.append({f"b{index}": branch})
        fork: dict[str, Any] = {"branches": branches}
        if compete:
            fork["compete"] = True
        return {"fork": fork, "output": dict(KEEP)}

    def _try(self, depth: int) -> dict[str, Any]:
        chance = self._chance
        catch: dict[str, Any] = {}
        if chance.random() < 0.3:
            kind = chance.choice(("communication", "timeout", "validation"))
            catch["errors"] = {"with": {"type": ERRORS + kind}}
        if chance.random() < 0.15:
            catch["when"] = "${ $error.status >= 429 }"
        if chance.random() < 0.75:
            catch["retry"] = self._retry()
        if chance.random() < 0.4:
            catch["do"] = self._block(depth + 1)
        return {"try": self._block(depth + 1), "catch": catch}

    def _retry(self) -> dict[str, Any]:
        chance = self._chance
        retry: dict[str, Any] = {"delay": {"milliseconds": chance.choice((0, 10, 200, 1_000))}}
        backoff = chance.choice(("none", "constant", "linear", "exponential"))
        if backoff == "linear":
            retry["backoff"] = {"linear": {"increment": {"milliseconds": 150}}}
        elif backoff == "exponential":
            retry["backoff"] = {"exponential": {"factor": 1.5, "maxDelay": {"seconds": 2}}}
        elif backoff == "constant":
            retry["backoff"] = {"constant": {}}
        attempt: dict[str, Any] = {"count": chance.choice((1, 2, 3, 5))}
        if chance.random() < 0.3:
            attempt["duration"] = {"milliseconds": chance.choice((20, 800, 3_000))}
        limit: dict[str, Any] = {"attempt": attempt}
        if chance.random() < 0.3:
            limit["duration"] = {"seconds": chance.choice((1, 4, 10))}
        retry["limit"] = limit
        if chance.random() < 0.3:
            retry["jitter"] = {"from": {"milliseconds": 0}, "to": {"milliseconds": 120}}
        if chance.random() < 0.1:
            retry["exceptWhen"] = "${ $error.status == 408 }"
        return retry

    def _raise(self, depth: int) -> dict[str, Any]:
        error = {"type": ERRORS + "runtime", "status": 500, "title": "raised"}
        return {"raise": {"error": error}}

    def _listen(self, depth: int) -> dict[str, Any]:
        chance = self._chance
        mode = chance.choice(("one", "any", "all"))
        kinds = chance.sample(EVENT_TYPES, 1 if mode == "one" else 2)
        filters: list[dict[str, Any]] = [{"with": {"type": kind}} for kind in kinds]
        if chance.random() < 0.4:  # the others are somebody else's
            filters[0]["with"]["data"] = f"${{ .n == {chance.randrange(EVENT_KINDS)} }}"
        to: dict[str, Any] = {mode: filters[0] if mode == "one" else filters}
        if mode == "any" and chance.random() < 0.15:
            to = {"any": []}
        return {"listen": {"to": to}, "output": dict(KEEP)}

    def _emit(self, depth: int) -> dict[str, Any]:
        kind = self._chance.choice(EVENT_TYPES)
        event = {"source": "https://sim.example", "type": kind, "data": {"n": "${ .n }"}}
        return {"emit": {"event": {"with": event}}, "output": dict(KEEP)}

    def _run(self, depth: int) -> dict[str, Any]:
        if not self._children:
            return self._call(depth)
        name = self._chance.choice(self._children)
        if self._chance.random() < 0.04:
            name = "no-such-definition"
        child = {"namespace": NAMESPACE, "name": name, "version": VERSION}
        if self._chance.random() < 0.5:
            child["version"] = "latest"
        task: dict[str, Any] = {"run": {"workflow": child}}
        if self._chance.random() < 0.35:
            task["run"]["await"] = False
        else:
            task["output"] = dict(KEEP)
        return task
