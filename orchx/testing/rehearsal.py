"""Runs a definition in memory, in virtual time: a user's unit test, in milliseconds.

    outcome = rehearse(text, {"employee": "ada"}, functions={"hr.create-employee": create})
    assert outcome.status == "completed"

Calls are answered by plain Python functions, waits take no time, and every event is kept
to be looked at. It runs the same `decide` and `evolve` as the engine, and checks that
folding the recorded events gives the very state that was reached.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from heapq import heappop, heappush

from orchx.domain import messages as m
from orchx.domain.decide import decide, open_workflow
from orchx.domain.decisions import Choice, Question
from orchx.domain.document import Definition, Schema
from orchx.domain.environment import CallTarget
from orchx.domain.events import AnyEvent, CallDetails, Request, type_of
from orchx.domain.evolve import fold
from orchx.domain.expressions import Expression, evaluate
from orchx.domain.faults import RUNTIME, Fault, WorkflowFault, standard
from orchx.domain.json_values import JSON
from orchx.domain.state import WorkflowState
from orchx.engine.environment import SchemaChecker
from orchx.errors import Bug

MAX_TURNS = 100_000
START_MS = 1_767_225_600_000  # 2026-01-01T00:00:00Z

# Answers a call: the evaluated arguments in, the output out; raises `WorkflowFault`
# (or anything else, which becomes a runtime error) to fail.
Function = Callable[[JSON], JSON]


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How a rehearsal ended. `status` is `waiting` if it needs an event that was not given."""

    status: str
    output: JSON
    error: Fault | None
    events: Sequence[AnyEvent]
    calls: Sequence[m.TaskRequest]
    elapsed_ms: int
    state: WorkflowState
    published: Sequence[Mapping[str, JSON]]

    def types(self) -> list[str]:
        """Return the event types in order."""
        return [type_of(event) for event in self.events]


@dataclass(slots=True)
class RehearsalWorld:
    """The environment of a rehearsal: virtual time, seeded chance, the functions given."""

    functions: Mapping[str, Function]
    services: Mapping[str, Sequence[str]] = field(default_factory=dict)
    now_ms: int = START_MS
    owner: str = "rehearsal"
    traceparent: str | None = None
    runtime: Mapping[str, JSON] = field(
        default_factory=lambda: {"name": "orchx", "version": "rehearsal", "metadata": {}}
    )
    chance: random.Random = field(default_factory=lambda: random.Random(0))
    schemas: SchemaChecker = field(default_factory=SchemaChecker)

    def out_of_time(self) -> bool:
        """Return that there is always time."""
        return False

    def evaluate(self, expression: Expression, data: JSON, variables: Mapping[str, JSON]) -> JSON:
        """Evaluate in this process, without limits."""
        return evaluate(expression, data, variables)

    def validate(self, schema: Schema, data: JSON) -> str | None:
        """Check with the same library as the engine."""
        return self.schemas.problem(schema, data)

    def draw(self) -> float:
        """Return the next random number of the seed."""
        return self.chance.random()

    def target(self, function: str) -> CallTarget | None:
        """Return the function given under this name."""
        if function in self.services:
            return CallTarget(kind="service", services=self.services[function])
        return CallTarget(kind="function") if function in self.functions else None

    def choose(self, question: Question) -> Choice:
        """Choose the alternative that failed least, the first of those."""
        chosen = min(question.alternatives, key=lambda a: question.failures.get(a, 0))
        propensities = [float(a == chosen) for a in question.alternatives]
        return Choice(
            chosen=chosen,
            alternatives=question.alternatives,
            propensities=propensities,
            policy="rehearsal",
        )


def rehearse(
    definition: Definition,
    input_: JSON = None,
    *,
    functions: Mapping[str, Function] | None = None,
    services: Mapping[str, Sequence[str]] | None = None,
    latency_ms: Mapping[str, int] | None = None,
    events: Sequence[Mapping[str, JSON]] = (),
    seed: int = 0,
) -> Outcome:
    """Run a workflow to its end, or until it needs an event that is not given.

    Args:
        definition: a parsed document, as `orchx.adapters.definition_source` gives it.
        input_: the workflow's input.
        functions: what answers calls, by function name (`http` and `openapi` too); a
            capability of `services` is answered by the name of the service chosen.
        services: the services of a capability, the preferred first.
        latency_ms: how long the answers of some functions take, in virtual milliseconds;
            the others answer at once. What is longer than a timeout runs into it.
        events: CloudEvents delivered once nothing else can happen, one after the other.
        seed: of whatever chance is needed (jitter).

    Raises:
        Bug: folding the events gave another state than the one reached.
    """
    world = RehearsalWorld(functions or {}, services or {}, chance=random.Random(seed))
    return _Rehearsal(definition, world, latency_ms or {}, deque(events)).run(input_)


class _Rehearsal:
    def __init__(
        self,
        definition: Definition,
        world: RehearsalWorld,
        latency_ms: Mapping[str, int],
        pending: deque[Mapping[str, JSON]],
    ) -> None:
        self._definition = definition
        self._world = world
        self._latency_ms = latency_ms
        self._pending = pending
        self._recorded: list[tuple[AnyEvent, int]] = []
        self._mail: deque[m.Message] = deque()
        self._late: list[tuple[int, int, m.Message]] = []  # (when it arrives, order, answer)
        self._calls: list[m.TaskRequest] = []
        self._published: list[Mapping[str, JSON]] = []

    def run(self, input_: JSON) -> Outcome:
        start = m.StartWorkflow(
            id="wf_rehearsal",
            workflow_id="wf_rehearsal",
            created_at_ms=self._world.now_ms,
            namespace=self._definition.namespace,
            name=self._definition.name,
            version=self._definition.version,
            digest=self._definition.digest,
            input={} if input_ is None else input_,
            request=Request(),
        )
        turn = open_workflow(start, self._definition, self._world)
        for _ in range(MAX_TURNS):
            self._recorded += [(event, self._world.now_ms) for event in turn.events]
            self._run_effects(turn.effects)
            if turn.unsettled:
                self._mail.appendleft(m.Resume(again=False))
            message = None if turn.state.terminal else self._next(turn.state)
            if message is None:
                return self._outcome(turn.state)
            turn = decide(turn.state, self._definition, message, self._world)
        raise Bug(f"no end after {MAX_TURNS} turns")

    def _next(self, state: WorkflowState) -> m.Message | None:
        """Return what happens next: mail first, then a given event, then time."""
        if self._mail:
            return self._mail.popleft()
        if self._pending and any(f.kind == "listen" for f in state.frames.values()):
            event = dict(self._pending.popleft())
            return m.DeliverEvent(
                id=f"event-{len(self._pending)}",
                workflow_id=state.workflow_id,
                created_at_ms=self._world.now_ms,
                event=event,
            )
        due_ms = state.next_due_ms()
        if self._late and (due_ms is None or self._late[0][0] < due_ms):
            self._world.now_ms, _, message = heappop(self._late)
            return message
        if due_ms is None:
            return None
        self._world.now_ms = max(self._world.now_ms, due_ms)
        return m.TimerFired()

    def _run_effects(self, effects: Sequence[m.Effect]) -> None:
        for effect in effects:
            if isinstance(effect, m.Execute):
                self._calls.append(effect.request)
                self._post(effect.request.call, self._answer(effect.request))
            elif isinstance(effect, m.Publish):
                self._published.append(effect.event)
            elif isinstance(effect, m.StartChild) and effect.child.awaited:
                self._mail.append(self._answer_child(effect))

    def _post(self, call: CallDetails, answer: m.Message) -> None:
        latency_ms = self._latency_ms.get(call.service or call.function, 0)
        if latency_ms > 0:
            arrives_ms = self._world.now_ms + latency_ms
            heappush(self._late, (arrives_ms, len(self._calls), answer))
        else:
            self._mail.append(answer)

    def _answer(self, request: m.TaskRequest) -> m.TaskOutcome:
        name = request.call.service or request.call.function
        output, error = self._call(name, request.call.arguments)
        return m.TaskOutcome(
            workflow_id=request.workflow_id,
            frame=request.frame,
            output=output,
            error=error,
            service=request.call.service,
        )

    def _answer_child(self, effect: m.StartChild) -> m.FinishChild:
        child = effect.child
        output, error = self._call(f"{child.namespace}/{child.name}", child.input)
        return m.FinishChild(
            id=f"child-{effect.frame}",
            workflow_id="wf_rehearsal",
            created_at_ms=self._world.now_ms,
            frame=effect.frame,
            output=output,
            error=error,
        )

    def _call(self, name: str, arguments: JSON) -> tuple[JSON, Fault | None]:
        function = self._world.functions.get(name)
        if function is None:
            return None, standard(RUNTIME, "No answer", detail=f"nothing answers {name!r}")
        try:
            return function(arguments), None
        except WorkflowFault as fault:
            return None, fault.fault
        except Exception as error:  # a user's function may raise anything
            return None, standard(RUNTIME, type(error).__name__, detail=str(error))

    def _outcome(self, state: WorkflowState) -> Outcome:
        if fold(state.workflow_id, self._recorded) != state:
            raise Bug("folding the events gave another state than the one reached")
        status = "waiting" if state.status == "running" else state.status
        return Outcome(
            status=status,
            output=state.output,
            error=state.error,
            events=[event for event, _ in self._recorded],
            calls=self._calls,
            elapsed_ms=self._world.now_ms - START_MS,
            state=state,
            published=self._published,
        )
