"""The core under random documents, cuts and disorder: the end is always the same one."""

from __future__ import annotations

import copy
import random
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from orchx.domain import events as e
from orchx.domain import messages as m
from orchx.domain.decide import decide, open_workflow
from orchx.domain.document import Definition
from orchx.domain.document_parser import parse_definition
from orchx.domain.evolve import evolve, fold
from orchx.domain.expressions import Expression
from orchx.domain.faults import COMMUNICATION, Fault
from orchx.domain.json_values import JSON
from orchx.domain.state import WorkflowState, call_site
from orchx.domain.turn import Turn
from orchx.engine.owner_rules import ending_of
from orchx.engine.summary import LiveSummary
from orchx.ports.supervision import Ending
from orchx.testing.rehearsal import START_MS, RehearsalWorld
from tests.unit.domain.stage import check_consistent, check_not_stuck

WORKFLOW_ID = "wf_random"
MAX_STEPS = 5_000
RETRIES = 2

# --- documents -----------------------------------------------------------------------------
# Data is always {n: number}. Inside a fork nothing fails, exports or ends the workflow:
# there the order of events may differ from run to run, and the end must not depend on it.


class Maker:
    """Draws tasks, each with a name of its own."""

    def __init__(self, draw: st.DrawFn) -> None:
        self._draw = draw
        self._named = 0

    def block(self, depth: int, *, quiet: bool) -> list[dict[str, Any]]:
        tasks: list[dict[str, Any]] = []
        for _ in range(self._draw(st.integers(1, 3))):
            tasks += self._tasks(depth, quiet=quiet)
        return tasks

    def _name(self) -> str:
        self._named += 1
        return f"t{self._named}"

    def _tasks(self, depth: int, *, quiet: bool) -> list[dict[str, Any]]:
        kinds = ["set", "call", "wait", "emit", "loop back", "choice", "child"]
        if not quiet and depth < 3:  # at the top it would end most documents early
            kinds += ["fail", "raise"]
        if depth > 0:
            kinds += ["do", "for", "fork", "race", "try", "retry"]
        kind = self._draw(st.sampled_from(kinds))
        if kind == "loop back":
            return self._loop_back()
        task = self._task(kind, depth, quiet=quiet)
        if self._draw(st.integers(0, 4)) == 0:
            task["if"] = ".n % 2 == 0"
        if not quiet and self._draw(st.integers(0, 3)) == 0:
            task["export"] = {"as": "{count: (($context.count // 0) + 1), n: .n}"}
        if not quiet and self._draw(st.integers(0, 15)) == 0:
            task["then"] = self._draw(st.sampled_from(["exit", "end", "continue"]))
        return [{self._name(): task}]

    def _loop_back(self) -> list[dict[str, Any]]:
        """A jump backwards, until n is large enough."""
        add, again = self._name(), self._name()
        limit = self._draw(st.integers(0, 6))
        work = {"call": "work", "with": {"n": "${ .n }"}}
        case = {"yes": {"when": f".n < {limit}", "then": add}}
        return [{add: work}, {again: {"switch": [case]}}]

    def _task(self, kind: str, depth: int, *, quiet: bool) -> dict[str, Any]:
        inner = depth - 1
        match kind:
            case "set":
                return {"set": {"n": "${ .n + 1 }"}}
            case "call":
                return {"call": "work", "with": {"n": "${ .n }"}}
            case "child":
                return {"run": {"workflow": {"namespace": "a", "name": "b"}}}
            case "fail":
                return {"call": "fail", "with": {"n": "${ .n }"}}
            case "raise":
                return {"raise": {"error": {"type": "https://x/raised", "status": 400}}}
            case "wait":
                return {"wait": {"milliseconds": self._draw(st.integers(0, 50))}}
            case "emit":
                event = {"source": "https://x", "type": "t"}
                return {"emit": {"event": {"with": event}}, "output": {"as": "{n: $input.n}"}}
            case "choice":
                directive = "exit"
                if quiet:
                    directive = "continue"
                elif depth < 3:
                    directive = self._draw(st.sampled_from(["exit", "end"]))
                return {"switch": [{"odd": {"when": ".n % 2 == 1", "then": directive}}]}
            case "do":
                return {"do": self.block(inner, quiet=quiet)}
            case "for":
                return {"for": {"in": "[1, 2]"}, "do": self.block(inner, quiet=quiet)}
            case "fork":
                branches = self.block(inner, quiet=True)
                names = [name for branch in branches for name in branch]
                for place, branch in enumerate(branches):
                    (task,) = branch.values()
                    if "switch" in task:  # a branch cannot go on with another
                        task["switch"] = [{"odd": {"when": ".n % 2 == 1", "then": "continue"}}]
                    if place and self._draw(st.booleans()):
                        task["metadata"] = {"orchx": {"after": [names[place - 1]]}}
                return {"fork": {"branches": branches}, "output": {"as": "{n: (map(.n) | add)}"}}
            case "race":
                slow = {"do": [{self._name(): {"wait": {"seconds": 9}}}]}
                fast = {"wait": {"seconds": 1}}
                branches = [{self._name(): slow}, {self._name(): fast}]
                return {"fork": {"compete": True, "branches": branches}}
            case "try":
                handler = {self._name(): {"set": {"n": "${ .n + 100 }"}}}
                return {"try": self.block(inner, quiet=quiet), "catch": {"do": [handler]}}
            case _:
                limit = {"attempt": {"count": RETRIES}}
                retry = {"delay": {"milliseconds": 20}, "limit": limit}
                handler = {self._name(): {"set": {"n": "${ .n + 1000 }"}}}
                catch = {"retry": retry, "do": [handler]}
                return {"try": self.block(inner, quiet=quiet), "catch": catch}


@st.composite
def definitions(draw: st.DrawFn) -> Definition:
    header = {"dsl": "1.0.3", "namespace": "test", "name": "random", "version": "1.0.0"}
    maker = Maker(draw)
    block = [task for _ in range(draw(st.integers(1, 4))) for task in maker.block(3, quiet=False)]
    output = {"as": "{n: .n, count: $context.count}"}
    return parse_definition({"document": header, "do": block, "output": output})


# --- running -------------------------------------------------------------------------------


def answer(call: e.CallDetails) -> tuple[JSON, Fault | None]:
    """Answer as a deterministic service does."""
    if call.function == "fail":
        return None, Fault(type=COMMUNICATION, status=503, title="Busy")
    return {"n": call.arguments["n"] + 1}, None


class Interrupted(Exception):
    """Raised in the middle of a turn, which is to be dropped and made again."""


class Impatient(RehearsalWorld):
    """Runs out of time at any step, and interrupts turns at any evaluation."""

    def out_of_time(self) -> bool:
        return self.chance.random() < 0.3

    def evaluate(self, expression: Expression, data: JSON, variables: Mapping[str, JSON]) -> JSON:
        if self.chance.random() < 0.2:
            raise Interrupted
        return super().evaluate(expression, data, variables)


class Run:
    """A workflow driven to its end; with `disorder`, by a world that repeats, loses, delays.

    With `haste` turns end after any step, and are dropped in the middle and made again.
    """

    def __init__(
        self,
        definition: Definition,
        disorder: random.Random | None = None,
        haste: random.Random | None = None,
    ) -> None:
        self.definition = definition
        self.disorder = disorder
        functions = {"work": lambda _: None, "fail": lambda _: None}
        self.world = (
            RehearsalWorld(functions) if haste is None else Impatient(functions, chance=haste)
        )
        self.history: list[tuple[e.AnyEvent, int]] = []
        self.requests: list[m.TaskRequest] = []
        self.mail: list[m.Message] = []
        self.state = WorkflowState(WORKFLOW_ID)

    def start(self) -> Run:
        command = m.StartWorkflow(
            id=WORKFLOW_ID,
            workflow_id=WORKFLOW_ID,
            created_at_ms=START_MS,
            namespace="test",
            name="random",
            version="1.0.0",
            digest=self.definition.digest,
            input={"n": 0},
            request=e.Request(),
        )
        self._absorb(self._made(lambda: open_workflow(command, self.definition, self.world)))
        return self._finish()

    def resume(self, history: list[tuple[e.AnyEvent, int]]) -> Run:
        """Go on, as a new owner does, from what these events say."""
        self.history = list(history)
        self.state = fold(WORKFLOW_ID, history)
        self.world.now_ms = history[-1][1]
        self.mail = [m.Resume()]
        return self._finish()

    def _finish(self) -> Run:
        for _ in range(MAX_STEPS):
            if self.state.terminal:
                return self
            if self.mail:
                self._absorb(self._take(self._next_mail()))
            else:
                due_ms = self.state.next_due_ms()
                assert due_ms is not None
                self.world.now_ms = max(self.world.now_ms, due_ms)
                self._absorb(self._take(m.TimerFired()))
        raise AssertionError("no end")

    def _take(self, message: m.Message) -> Turn:
        return self._made(lambda: decide(self.state, self.definition, message, self.world))

    def _made(self, turn: Callable[[], Turn]) -> Turn:
        """Return a turn once it is not interrupted, which must leave no trace."""
        before = copy.deepcopy(self.state.as_json())
        while True:
            try:
                return turn()
            except Interrupted:
                assert self.state.as_json() == before

    def _next_mail(self) -> m.Message:
        chance = self.disorder
        if chance is None:
            return self.mail.pop(0)
        if chance.random() < 0.1:
            return m.TimerFired()
        if chance.random() < 0.1:  # a crash: the mail is lost, the log is not
            self.state = fold(WORKFLOW_ID, self.history)
            self.mail = [m.Resume()]
        place = chance.randrange(len(self.mail))
        message = self.mail[place]
        if chance.random() < 0.8:  # else it comes again
            del self.mail[place]
        return message

    def _absorb(self, turn: Turn) -> None:
        self._keep(turn)
        while turn.unsettled:
            turn = self._take(m.Resume(again=False))
            self._keep(turn)
        check_not_stuck(self.state)

    def _keep(self, turn: Turn) -> None:
        self.history += [(event, self.world.now_ms) for event in turn.events]
        self.state = turn.state
        check_consistent(self.state)
        for effect in turn.effects:
            if isinstance(effect, m.Execute):
                request = effect.request
                self.requests.append(request)
                output, error = answer(request.call)
                self.mail.append(
                    m.TaskOutcome(
                        workflow_id=WORKFLOW_ID, frame=request.frame, output=output, error=error
                    )
                )
            elif isinstance(effect, m.StartChild):
                self.mail.append(
                    m.FinishChild(
                        id=f"done-{effect.child.workflow_id}",
                        workflow_id=WORKFLOW_ID,
                        created_at_ms=START_MS,
                        frame=effect.frame,
                        output={"n": effect.child.input["n"] + 7},
                    )
                )

    @property
    def end(self) -> tuple[str, JSON]:
        return self.state.status, self.state.output


@settings(max_examples=200)
@given(definitions(), st.data())
def test_a_new_owner_reaches_the_same_end_from_every_prefix(
    definition: Definition, data: st.DataObject
) -> None:
    whole = Run(definition).start()
    length = len(whole.history)
    cuts = range(1, length + 1) if length <= 40 else data.draw(
        st.lists(st.integers(1, length), min_size=10, max_size=10)
    )  # fmt: skip
    for cut in cuts:
        resumed = Run(definition).resume(whole.history[:cut])
        assert resumed.end == whole.end, f"cut after {cut} of {length}"


@settings(max_examples=200)
@given(definitions(), st.integers(0, 2**32))
def test_disorder_changes_neither_the_end_nor_how_often_things_are_done(
    definition: Definition, seed: int
) -> None:
    calm = Run(definition).start()
    wild = Run(definition, random.Random(seed)).start()

    assert wild.end == calm.end
    assert {request.key for request in wild.requests} == {r.key for r in calm.requests}
    ended = Counter(
        event.frame
        for event, _ in wild.history
        if isinstance(event, e.TaskCompleted | e.TaskFaulted | e.TaskCancelled) and event.frame
    )
    assert set(ended.values()) <= {1}


@settings(max_examples=200)
@given(definitions(), st.integers(0, 2**32))
def test_where_turns_end_changes_nothing_that_happens(definition: Definition, seed: int) -> None:
    calm = Run(definition).start()
    hasty = Run(definition, haste=random.Random(seed)).start()
    wild = Run(definition, random.Random(seed), haste=random.Random(seed)).start()

    assert hasty.end == wild.end == calm.end
    assert Counter(request.key for request in hasty.requests) == Counter(
        request.key for request in calm.requests
    )
    assert {request.key for request in wild.requests} == {r.key for r in calm.requests}


@given(definitions(), st.integers(0, 2**32))
def test_the_news_of_an_end_is_what_the_projection_will_say(
    definition: Definition, seed: int
) -> None:
    run = Run(definition, random.Random(seed)).start()
    live = LiveSummary(WORKFLOW_ID)
    events = [(e.WorkflowActivated(), run.history[0][1]), *run.history]
    for number, (event, at_ms) in enumerate(events):
        record = e.Record(
            workflow_id=WORKFLOW_ID, epoch=1, owner="o", seq=number, at_ms=at_ms, event=event
        )
        assert live.lineage.accepts(record)
        live.apply(record)
    summary, news = live.freeze(), ending_of(run.state, epoch=1, told=True)

    assert news.error is None or news.error.as_json() == summary.error
    for field in set(Ending.__struct_fields__) - {"told", "error"}:
        assert getattr(news, field) == getattr(summary, field), field


@given(definitions())
def test_keys_are_equal_across_retries_and_differ_across_iterations(
    definition: Definition,
) -> None:
    run = Run(definition).start()
    sites = {
        event.frame: call_site(event.reference, event.iteration)
        for event, _ in run.history
        if isinstance(event, e.TaskStarted)
    }
    keys = {(sites[request.frame], request.key) for request in run.requests}

    assert len({site for site, _ in keys}) == len({key for _, key in keys}) == len(keys)
    # the same site runs again only because a `try` around it does: how often is bounded
    for event, _ in run.history:
        if isinstance(event, e.TaskRetried):
            assert event.attempt <= RETRIES + 1


@given(definitions())
def test_evolve_changes_nothing_that_it_was_given(definition: Definition) -> None:
    run = Run(definition).start()
    state = WorkflowState(WORKFLOW_ID)
    for event, at_ms in run.history:
        before = copy.deepcopy(state.as_json())
        after = evolve(state, event, at_ms)
        assert state.as_json() == before
        state = after

    assert state == run.state == fold(WORKFLOW_ID, run.history)
