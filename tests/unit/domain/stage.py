"""A stage for one workflow: documents as YAML, messages given by hand, every turn checked."""

from __future__ import annotations

import copy
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from orchx.adapters.definition_source import read_definition
from orchx.domain import messages as m
from orchx.domain.decide import decide, open_workflow
from orchx.domain.document import Definition
from orchx.domain.environment import CallTarget
from orchx.domain.events import AnyEvent, Event, Request, type_of
from orchx.domain.evolve import fold
from orchx.domain.faults import COMMUNICATION, STANDARD_PREFIX, Fault, WorkflowFault
from orchx.domain.json_values import JSON
from orchx.domain.state import ROOT, Frame, WorkflowState
from orchx.domain.turn import Turn
from orchx.testing.rehearsal import RehearsalWorld

HEADER = "document: {dsl: '1.0.3', namespace: test, name: staged, version: '1.0.0'}\n"
WORKFLOW_ID = "wf_staged"


def document(body: str) -> Definition:
    """Return the definition whose document has this YAML after its header."""
    return read_definition(HEADER + textwrap.dedent(body))


def unavailable(status: int = 503, *, retry_after_ms: int | None = None) -> Fault:
    return Fault(
        type=COMMUNICATION, status=status, title="Unavailable", retry_after_ms=retry_after_ms
    )


def failing(fault: Fault) -> Any:
    """Return a function for `rehearse` that always fails with this."""

    def fail(arguments: JSON) -> JSON:
        raise WorkflowFault(fault)

    return fail


def kind_of(fault: Fault | None) -> str:
    """Return the short name of a standard error: `timeout`."""
    assert fault is not None
    return fault.type.removeprefix(STANDARD_PREFIX)


class World(RehearsalWorld):
    """Everything that is not a capability is a function that somebody can do."""

    def target(self, function: str) -> CallTarget | None:
        return super().target(function) or CallTarget(kind="function")


class Stage:
    """A workflow that goes on only by what a test gives it.

    After every turn: the state given was not changed, folding the events gives the state
    reached, parents count their children right, and something can still happen.
    """

    def __init__(
        self,
        definition: Definition | str,
        input_: JSON = None,
        *,
        services: Mapping[str, Sequence[str]] | None = None,
        request: Request | None = None,
        world: World | None = None,
    ) -> None:
        self.definition = document(definition) if isinstance(definition, str) else definition
        self.world = world or World({}, services or {})
        self.history: list[tuple[AnyEvent, int]] = []
        self.effects: list[m.Effect] = []
        self.turns = 0
        start = m.StartWorkflow(
            id=WORKFLOW_ID,
            workflow_id=WORKFLOW_ID,
            created_at_ms=self.world.now_ms,
            namespace="test",
            name="staged",
            version="1.0.0",
            digest=self.definition.digest,
            input={} if input_ is None else input_,
            request=request or Request(),
        )
        self.state = WorkflowState(WORKFLOW_ID)
        self._absorb(open_workflow(start, self.definition, self.world))

    # -- what happens ----------------------------------------------------------------------

    def take(self, message: m.Message) -> Turn:
        before = copy.deepcopy(self.state.as_json())
        turn = decide(self.state, self.definition, message, self.world)
        assert self.state.as_json() == before
        self._absorb(turn)
        return turn

    def _absorb(self, turn: Turn) -> None:
        self.turns += 1
        self.history += [(event, self.world.now_ms) for event in turn.events]
        self.effects += turn.effects
        self.state = turn.state
        check_consistent(self.state)
        assert fold(self.state.workflow_id, self.history) == self.state
        if turn.unsettled:
            self.take(m.Resume(again=False))
        else:
            check_not_stuck(self.state)

    def answer(self, name: str, output: JSON = None, error: Fault | None = None) -> Turn:
        """Report the outcome of the call of the task with this name that began first."""
        return self.outcome(self.calling(name)[0], output, error)

    def outcome(self, frame: Frame, output: JSON = None, error: Fault | None = None) -> Turn:
        service = None if frame.call is None else frame.call.service
        return self.take(
            m.TaskOutcome(
                workflow_id=WORKFLOW_ID,
                frame=frame.id,
                output=output,
                error=error,
                service=service,
            )
        )

    def wait(self, ms: int) -> Turn:
        """Let time pass at once, and whatever is due be noticed at the end of it."""
        self.world.now_ms += ms
        return self.take(m.TimerFired())

    def deliver(
        self,
        type_: str,
        data: JSON = None,
        *,
        id_: str = "",
        broadcast: bool = False,
        **attributes: JSON,
    ) -> Turn:
        event = {"specversion": "1.0", "id": "1", "source": "https://tests", "type": type_}
        return self.take(
            m.DeliverEvent(
                id=id_ or f"event-{len(self.history)}",
                workflow_id=WORKFLOW_ID,
                created_at_ms=self.world.now_ms,
                event={**event, **attributes, "data": data},
                broadcast=broadcast,
            )
        )

    def finish_child(self, name: str, output: JSON = None, error: Fault | None = None) -> Turn:
        (frame,) = [f for f in self.state.awaiting_children() if f.reference.endswith(f"/{name}")]
        return self.take(
            m.FinishChild(
                id=f"child-{frame.id}",
                workflow_id=WORKFLOW_ID,
                created_at_ms=self.world.now_ms,
                frame=frame.id,
                output=output,
                error=error,
            )
        )

    def cancel(self, reason: str = "", id_: str = "cancel-1") -> Turn:
        return self.take(
            m.CancelWorkflow(
                id=id_, workflow_id=WORKFLOW_ID, created_at_ms=self.world.now_ms, reason=reason
            )
        )

    # -- what there is to see --------------------------------------------------------------

    def calling(self, name: str) -> list[Frame]:
        return [f for f in self.state.executing() if f.reference.endswith(f"/{name}")]

    def calls(self) -> list[str]:
        """Return the names of the tasks whose calls are out."""
        return [frame.reference.rpartition("/")[2] for frame in self.state.executing()]

    def of(self, kind: type[m.Effect]) -> list[Any]:
        return [effect for effect in self.effects if isinstance(effect, kind)]

    def requests(self) -> list[m.TaskRequest]:
        return [effect.request for effect in self.of(m.Execute)]

    def events(self, kind: type[Event]) -> list[Any]:
        return [event for event, _ in self.history if isinstance(event, kind)]

    def types(self) -> list[str]:
        return [type_of(event) for event, _ in self.history]


def check_consistent(state: WorkflowState) -> None:
    """Every frame's parent is there and counts its children."""
    children = dict.fromkeys(state.frames, 0)
    for frame in state.frames.values():
        if frame.id != ROOT:
            children[frame.parent] += 1
    assert {id_: frame.active for id_, frame in state.frames.items()} == children
    assert state.terminal == (not state.frames)


def check_not_stuck(state: WorkflowState) -> None:
    """A workflow that is not over waits for a call, a child, an event or a time."""
    assert (
        state.terminal
        or state.executing()
        or state.awaiting_children()
        or any(frame.kind == "listen" for frame in state.frames.values())
        or state.next_due_ms() is not None
    )
