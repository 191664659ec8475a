"""The world as one turn sees it: catalog, registered functions, policy, clock, expressions."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import jsonschema_rs

from orchx.domain.decisions import Choice, Question
from orchx.domain.document import Schema
from orchx.domain.environment import CallTarget
from orchx.domain.expressions import Expression
from orchx.domain.faults import CONFIGURATION, WorkflowFault, standard
from orchx.domain.json_values import JSON
from orchx.domain.services import Service
from orchx.ports.evaluator import Evaluator, WouldBlock
from orchx.ports.policy import Policy

RUNTIME: Mapping[str, JSON] = {"name": "orchx", "version": "0.1.0", "metadata": {}}
MAX_VALIDATORS = 2_000
MAX_DETAIL_CHARS = 300

MAX_TURN_S = 0.02
"""After so long a turn ends at its next step, and with it the mail that is answered at once."""

MAX_STEP_S = 0.03
"""A single step that goes on for so long beyond the turn's end is not made on the event loop."""


class Directory:
    """Who can do a function: Python tasks by name, services by capability.

    Replaced as a whole when the catalog changes; looking up costs a dict access.
    """

    __slots__ = ("_targets",)

    def __init__(self, functions: Mapping[str, CallTarget], services: Sequence[Service]) -> None:
        targets: dict[str, CallTarget] = {}
        providers: dict[str, list[tuple[int, str]]] = {}
        for service in services:
            for operation in service.operations:
                providers.setdefault(operation.capability, []).append(
                    (operation.priority, service.name)
                )
        for capability, ranked in providers.items():
            names = tuple(name for _, name in sorted(ranked))
            targets[capability] = CallTarget(kind="service", services=names)
        targets.update(functions)
        self._targets = targets

    def target(self, function: str) -> CallTarget | None:
        """Return who can do a function; None: nobody."""
        return self._targets.get(function)


class SchemaChecker:
    """Validates data against JSON schemas, each compiled once. Bounded.

    A `$ref` finds what is in the schema itself. It is never fetched: a document must not
    make the engine read files or call addresses of its author's choosing.
    """

    def __init__(self) -> None:
        self._validators: dict[int, tuple[Schema, jsonschema_rs.Validator]] = {}

    def problem(self, schema: Schema, data: JSON) -> str | None:
        """Return the first thing wrong, its JSON pointer first; None if nothing is.

        Raises:
            WorkflowFault: type configuration: it is not a schema that can be used.
        """
        known = self._validators.get(id(schema))
        if known is None:
            if len(self._validators) >= MAX_VALIDATORS:
                self._validators.clear()
            # the schema is kept beside its validator, so that its id is not used again
            known = (schema, _validator(schema))
            self._validators[id(schema)] = known
        for error in known[1].iter_errors(data):
            pointer = "/" + "/".join(str(part) for part in error.instance_path)
            return f"{pointer}: {error.message}"
        return None


def _validator(schema: Schema) -> jsonschema_rs.Validator:
    try:
        return jsonschema_rs.validator_for(schema.document, retriever=_refuse)
    except (ValueError, jsonschema_rs.ValidationError, jsonschema_rs.ReferencingError) as error:
        detail = str(error).partition("\n")[0][:MAX_DETAIL_CHARS]
        raise WorkflowFault(standard(CONFIGURATION, "Unusable schema", detail=detail)) from error


def _refuse(uri: str) -> JSON:
    raise ValueError(f"{uri} is outside of the schema, and nothing is fetched")


@dataclass(slots=True)
class World:
    """What is the same for all turns of a process, until something changes it."""

    owner: str
    evaluator: Evaluator
    policy: Policy
    directory: Directory
    schemas: SchemaChecker
    now: Callable[[], int]
    draw: Callable[[], float] = random.random
    ticks_s: Callable[[], float] = time.monotonic


class TurnEnvironment:
    """One turn's `orchx.domain.environment.Environment`: time stands still in it.

    Args:
        world: what it shows of itself.
        traceparent: the trace that the turn belongs to.
        may_block: whether the turn is made in a thread, where an evaluation may take long.
        until_s: when the turn shall end, by the world's ticks; in `MAX_TURN_S` if not given.
    """

    __slots__ = ("_may_block", "_until_s", "_world", "now_ms", "owner", "traceparent")

    runtime = RUNTIME

    def __init__(
        self,
        world: World,
        traceparent: str | None = None,
        *,
        may_block: bool = True,
        until_s: float | None = None,
    ) -> None:
        self._world = world
        self._may_block = may_block
        self._until_s = world.ticks_s() + MAX_TURN_S if until_s is None else until_s
        self.now_ms = world.now()
        self.owner = world.owner
        self.traceparent = traceparent

    def out_of_time(self) -> bool:
        """Return whether the turn has had its time."""
        return self._world.ticks_s() >= self._until_s

    def evaluate(self, expression: Expression, data: JSON, variables: Mapping[str, JSON]) -> JSON:
        """Evaluate within the evaluator's limits.

        Raises:
            WouldBlock: it takes too long for the event loop, or all before it did.
        """
        if not self._may_block and self._world.ticks_s() >= self._until_s + MAX_STEP_S:
            raise WouldBlock
        return self._world.evaluator.evaluate(
            expression, data, variables, may_block=self._may_block
        )

    def validate(self, schema: Schema, data: JSON) -> str | None:
        """Return the first thing wrong with `data`."""
        return self._world.schemas.problem(schema, data)

    def draw(self) -> float:
        """Return a random number in [0, 1)."""
        return self._world.draw()

    def target(self, function: str) -> CallTarget | None:
        """Return who can do a function."""
        return self._world.directory.target(function)

    def choose(self, question: Question) -> Choice:
        """Let the policy in force choose."""
        return self._world.policy.choose(question, self._world.draw())
