"""The owner of live workflows: mailboxes, turns, effects.

A turn drains a workflow's mailbox, decides, appends the events and, once they are
durable, takes the new state over and runs the effects. All workflows of an owner share
one event loop; the turns of one loop turn go into the log together. Capacity 1 or N, it
is the same code.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Coroutine, Iterable, Mapping, Sequence
from functools import partial

import structlog

from orchx.domain import messages as m
from orchx.domain.events import CorrelationStarted, Record, WorkflowPassivated
from orchx.domain.state import WorkflowState
from orchx.domain.turn import Turn
from orchx.engine.activation import Activated, Activator
from orchx.engine.decider import Decider, Offload
from orchx.engine.effects import EffectRunner
from orchx.engine.environment import TurnEnvironment, World
from orchx.engine.live import Live
from orchx.engine.open_calls import OpenCalls
from orchx.engine.outbox import Outbox
from orchx.engine.owner_rules import ending_of, listens, matters
from orchx.errors import DriverError, Fenced, OrchxError, TryLater
from orchx.ports.clock import Clock
from orchx.ports.event_log import EventLog
from orchx.ports.supervision import Assignment, OwnerStatus, Passivation, Subscription
from orchx.ports.task_pool import TaskPoolLink
from orchx.settings import OwnerSettings, SweepSettings

logger = structlog.get_logger(__name__)

MAX_TIMER_S = 3600.0
RELEASE_LIMIT_S = 2.0


class Owner:
    """Owns workflows; its methods are what an actor's shell exposes.

    Args:
        name: the actor's name, to which commands and outcomes are sent.
        incarnation: unique for this process; with the epoch, what the fold accepts.
        log: where events become durable.
        activator: takes workflows up.
        world: what decisions may ask.
        pools: the links to the task pools, by pool name.
        outbox: collects what the Dispatcher is told.
        clock: time.
        offload: runs what may take long away from the loop.
    """

    def __init__(
        self,
        *,
        name: str,
        incarnation: str,
        log: EventLog,
        activator: Activator,
        world: World,
        pools: Mapping[str, TaskPoolLink],
        outbox: Outbox,
        clock: Clock,
        offload: Offload,
        settings: OwnerSettings,
        sweep: SweepSettings,
    ) -> None:
        self.name = name
        self.incarnation = incarnation
        self._log = log
        self._activator = activator
        self._world = world
        self._pools = pools
        self._clock = clock
        self._decider = Decider(world, offload)
        self._settings = settings
        self._sweep = sweep
        self._outbox = outbox
        self._effects = EffectRunner(pools, outbox, clock)
        self._live: dict[str, Live] = {}
        self._opening: dict[str, list[Assignment]] = {}
        self._openings: dict[str, asyncio.Task[None]] = {}  # those that see to it
        self._ready: deque[Live] = deque()
        self._tasks: set[asyncio.Task[None]] = set()
        self._round_planned = False
        self._checks = 0  # how many look for superseded workflows before anything is decided
        self._lease_until_ms = clock.ticks_ms() + settings.lease_ms
        self._calls = OpenCalls()
        self._closed = False

    # -- what others send -----------------------------------------------------------------

    def hello(self) -> None:
        """Tell the Dispatcher that this owner is here and holds nothing."""
        self._outbox.hello()

    def deliver(self, assignments: Sequence[Assignment]) -> None:
        """Take workflows and commands from the Dispatcher, which thereby renews the lease."""
        self._renew_lease()
        for assignment in assignments:
            live = self._live.get(assignment.workflow_id)
            if live is not None:
                self._take(live, assignment)
            elif assignment.workflow_id in self._opening:
                self._opening[assignment.workflow_id].append(assignment)
            else:
                self._opening[assignment.workflow_id] = [assignment]
                task = self._spawn(self._open(assignment.workflow_id))
                self._openings[assignment.workflow_id] = task

    def outcomes(self, outcomes: Sequence[m.TaskOutcome]) -> None:
        """Take the outcomes of calls; those of workflows not owned here are dropped."""
        for outcome in outcomes:
            live = self._live.get(outcome.workflow_id)
            if live is not None:
                self._post(live, outcome)

    def status(self, expected: Sequence[str]) -> OwnerStatus:
        """Renew the lease and say what of `expected` is not here, and what else is."""
        self._renew_lease()
        wanted = set(expected)
        here = self._live.keys() | self._opening.keys()
        strangers = [key for key in self._live if key not in wanted]
        if strangers:
            self._spawn(self._let_go_of_superseded(strangers))
        return OwnerStatus(
            incarnation=self.incarnation,
            unknown=[i for i in expected if i not in here],
            live=len(here),
            unexpected=sorted(i for i in here if i not in wanted),
        )

    async def release(self, workflow_ids: Sequence[str]) -> None:
        """Let go of workflows that another engine is to own.

        Turns being stored have no effects any more. What is being taken up is waited for.
        """
        leaving = set(workflow_ids)
        opening = [self._openings[key] for key in leaving if key in self._openings]
        if opening:
            _, late = await asyncio.wait(opening, timeout=RELEASE_LIMIT_S)
            if late:
                logger.warning("workflows still being taken up", count=len(late))
        for workflow_id in leaving & self._live.keys():
            self._drop(self._live[workflow_id])

    def states(self) -> Mapping[str, WorkflowState]:
        """Return the live states by workflow id: for checks and views, not to be changed."""
        return {key: live.state for key, live in self._live.items()}

    # -- taking workflows up ----------------------------------------------------------------

    async def _open(self, workflow_id: str) -> None:
        activated: Activated | None = None
        # what came in one batch is all here by now: a start may stand behind a cancellation
        commands = [assignment.command for assignment in self._opening[workflow_id]]
        start = next((c for c in commands if isinstance(c, m.StartWorkflow)), None)
        try:
            if start is not None:
                activated = await self._activator.start(start)
            else:
                activated = await self._activator.take_up(workflow_id)
        except OrchxError as error:
            logger.warning("not activated", workflow_id=workflow_id, error=str(error))
        except Exception:  # this actor's edge: the Dispatcher has it tried again, and says so
            logger.exception("activation failed", workflow_id=workflow_id)
        waiting = self._opening.pop(workflow_id)
        del self._openings[workflow_id]
        if self._closed:
            return
        if activated is None:
            self._outbox.lost(workflow_id)
        elif activated.live is None:
            self._already_over(activated, waiting)
        else:
            self._own(activated.live, activated.opening, waiting)

    def _already_over(self, activated: Activated, waiting: Iterable[Assignment]) -> None:
        self._outbox.ended(ending_of(activated.state, epoch=activated.epoch, told=True))
        for assignment in waiting:
            if assignment.command is not None:
                self._outbox.applied(assignment.command.id)

    def _own(self, live: Live, opening: Turn | None, waiting: Iterable[Assignment]) -> None:
        self._live[live.workflow_id] = live
        live.watched = any(assignment.watched for assignment in waiting)
        live.touched_ms = self._clock.ticks_ms()
        if opening is not None:
            self._take_over(live, opening)
            self._outbox.applied(live.workflow_id)
            if self._retire_if_over(live):
                return
            if opening.unsettled:
                self._post(live, m.Resume(again=False))
        else:
            self._announce_listeners(live)
            self._post(live, m.Resume())
        for assignment in waiting:
            if assignment.command is not None and not (
                opening is not None and assignment.command.id == live.workflow_id
            ):
                self._take(live, assignment)

    def _announce_listeners(self, live: Live) -> None:
        """Tell again what a workflow listens for: its last owner may have died before it did."""
        for types in listens(live):
            self._outbox.listening(Subscription(workflow_id=live.workflow_id, types=types))

    def _take(self, live: Live, assignment: Assignment) -> None:
        live.watched |= assignment.watched
        command = assignment.command
        if command is None:
            return
        if isinstance(command, m.StartWorkflow) or command.id in live.state.commands:
            self._outbox.applied(command.id)  # the log has it already
        else:
            self._post(live, command)

    # -- mailboxes and turns ------------------------------------------------------------------

    def _post(self, live: Live, message: m.Message) -> None:
        live.mailbox.append(message)
        if not live.busy:
            self._make_ready(live)

    def _make_ready(self, live: Live) -> None:
        live.busy = True
        self._ready.append(live)
        self._plan_round()

    def _plan_round(self) -> None:
        if not self._round_planned:
            self._round_planned = True
            asyncio.get_running_loop().call_soon(self._start_round)

    def _start_round(self) -> None:
        """Decide for workflows that have mail, as many as there is time for; or await the lease."""
        self._round_planned = False
        if self._closed or not self._ready:
            return
        if self._checks or self._clock.ticks_ms() >= self._lease_until_ms:
            self._round_planned = True
            interval_s = self._sweep.interval_ms / 1000
            asyncio.get_running_loop().call_later(interval_s, self._start_round)
            return
        turns: list[tuple[Live, Turn]] = []
        share = self._decider.share
        share.begin()
        while self._ready:
            live = self._ready.popleft()
            if self._live.get(live.workflow_id) is live:
                turns += self._decide(live)
            if share.spent():
                break
        if turns:
            self._spawn(self._commit(turns))
        if self._ready:
            self._plan_round()

    def _decide(self, live: Live) -> list[tuple[Live, Turn]]:
        """Return turns to be committed; none if they are made elsewhere, or cannot be."""
        try:
            turns = [] if live.away else self._decider.here(live)
        except (TryLater, DriverError) as error:
            self._give_up([live], error)
            return []
        if live.away and not turns:
            self._spawn(self._decide_away(live))
        return [(live, turn) for turn in turns]

    async def _decide_away(self, live: Live) -> None:
        try:
            turns = await self._decider.away(live)
        except Exception as error:  # this actor's edge: nobody may stay busy for ever
            self._give_up([live], error)
            return
        await self._commit([(live, turn) for turn in turns])

    async def _commit(self, turns: Sequence[tuple[Live, Turn]]) -> None:
        """Make events durable, then take the states over and run the effects."""
        records: list[Record] = []
        for live, turn in turns:
            if turn.events:
                records.extend(live.records(turn.events, turn.env.now_ms, self.incarnation))
        if records:
            try:
                await self._log.append(records)
                fenced = await self._find_superseded(turns)
            except Exception as error:  # this actor's edge: nobody may stay busy for ever
                self._give_up([live for live, _ in turns], error)
                return
            if fenced:
                self._give_up(fenced, Fenced("another owner has taken the workflow"))
                turns = [(live, turn) for live, turn in turns if live not in fenced]
        if self._closed:
            return
        turns = [(live, turn) for live, turn in turns if self._live.get(live.workflow_id) is live]
        for live, turn in turns:
            self._take_over(live, turn)
        for live in {id(live): live for live, _ in turns}.values():
            self._after_turns(live)

    async def _find_superseded(self, turns: Sequence[tuple[Live, Turn]]) -> list[Live]:
        """Return those that another owner has claimed, where the turn matters to others.

        A call that a fenced owner makes is harmless: its key is the right owner's too. But its
        news to parents, listeners and the Dispatcher would be lies, and a command that it has
        taken would be lost. One claimed after this append is given up as well: its new owner
        has read these events, and tells the same.
        """
        lives = {x.workflow_id: x for x, turn in turns if matters(x, turn)}
        if not lives:
            return []
        epochs = await self._log.epochs(list(lives))
        return [live for key, live in lives.items() if epochs.get(key, 0) > live.epoch]

    def _take_over(self, live: Live, turn: Turn) -> None:
        live.state = turn.state
        if turn.effects:
            ending = partial(ending_of, turn.state, epoch=live.epoch, told=live.watched)
            self._effects.run(turn.effects, ending)
        for event in turn.events:
            if type(event) is CorrelationStarted:
                self._outbox.listening(
                    Subscription(workflow_id=live.workflow_id, types=event.types)
                )
        self._arm_timer(live)

    def _after_turns(self, live: Live) -> None:
        for message in live.taken:
            if isinstance(message, m.Command):
                self._outbox.applied(message.id)
        live.taken.clear()
        live.busy = False
        live.touched_ms = self._clock.ticks_ms()
        if not self._retire_if_over(live) and live.mailbox:
            self._make_ready(live)

    def _retire_if_over(self, live: Live) -> bool:
        if not live.state.terminal and not live.state.passivated:
            return False
        for message in live.mailbox:
            if live.state.terminal and isinstance(message, m.Command):
                self._outbox.applied(message.id)  # too late: the workflow is over
        if live.state.passivated and live.mailbox:
            return False
        self._drop(live)
        if live.state.passivated:
            self._outbox.passivated(
                Passivation(
                    workflow_id=live.workflow_id,
                    due_at_ms=live.state.next_due_ms(),
                    listens=sorted({kind for types in listens(live) for kind in types or ["*"]}),
                )
            )
        return True

    def _give_up(self, lives: Iterable[Live], error: Exception) -> None:
        """Let go of workflows whose append failed, or for which nothing can be decided now.

        What is durable is unknown, so the state is too. The Dispatcher has them taken up
        again, from the log, after a pause that grows.
        """
        cause = None if isinstance(error, OrchxError) else error
        logger.error("workflows given up", error=str(error), exc_info=cause)
        for live in lives:
            if self._live.get(live.workflow_id) is live:
                self._drop(live)
                self._outbox.lost(live.workflow_id)

    def _drop(self, live: Live) -> None:
        del self._live[live.workflow_id]
        if live.timer is not None:
            live.timer.cancel()
            live.timer = None

    # -- time -----------------------------------------------------------------------------------

    def _arm_timer(self, live: Live) -> None:
        due_ms = None if live.state.terminal else live.state.next_due_ms()
        if live.timer is not None:
            if due_ms == live.timer_due_ms:
                return
            live.timer.cancel()
            live.timer = None
        live.timer_due_ms = due_ms
        if due_ms is not None:
            delay_s = max(0.0, (due_ms - self._clock.now_ms()) / 1000)
            loop = asyncio.get_running_loop()
            live.timer = loop.call_later(min(delay_s, MAX_TIMER_S), self._timer_fired, live)

    def _timer_fired(self, live: Live) -> None:
        live.timer = None
        if self._live.get(live.workflow_id) is not live:
            return
        due_ms = live.state.next_due_ms()
        if due_ms is not None and due_ms <= self._clock.now_ms():
            self._post(live, m.TimerFired())
        else:
            self._arm_timer(live)

    def _renew_lease(self) -> None:
        ticks_ms = self._clock.ticks_ms()
        if ticks_ms >= self._lease_until_ms and self._live:
            # others may own what is here: nothing is decided before that is known
            self._checks += 1
            self._spawn(self._let_go_of_superseded(list(self._live), holds_rounds=True))
        self._lease_until_ms = ticks_ms + self._settings.lease_ms

    async def _let_go_of_superseded(
        self, workflow_ids: Sequence[str], *, holds_rounds: bool = False
    ) -> None:
        """Drop workflows that another owner has claimed meanwhile."""
        try:
            epochs = await self._log.epochs(workflow_ids)
            for workflow_id in workflow_ids:
                live = self._live.get(workflow_id)
                if live is not None and epochs.get(workflow_id, 0) > live.epoch:
                    logger.warning("superseded", workflow_id=workflow_id)
                    self._drop(live)
        except OrchxError as error:
            logger.warning("epochs not known", error=str(error))
        finally:
            self._checks -= holds_rounds

    async def sweep(self) -> None:
        """Let go of what others took, passivate what only waits, have lost calls made again."""
        if self._live:
            await self._let_go_of_superseded(list(self._live))
        idle_since_ms = self._clock.ticks_ms() - self._settings.passivate_after_ms
        letting_go: list[tuple[Live, Turn]] = []
        for live in self._live.values():
            if live.busy or live.touched_ms > idle_since_ms or not live.state.only_waits():
                continue
            turn = Turn(live.state, live.plan.definition, TurnEnvironment(self._world))
            turn.record(WorkflowPassivated(due_at_ms=live.state.next_due_ms()))
            live.busy = True
            letting_go.append((live, turn))
        if letting_go:
            await self._commit(letting_go)
        await self._find_lost_calls(self._clock.now_ms() - self._sweep.interval_ms)

    async def _find_lost_calls(self, before_ms: int) -> None:
        """Ask every pool whether it has what this owner waits for."""
        waiting = self._calls.by_pool(self._live.values(), before_ms=before_ms)
        for pool, executions in waiting.items():
            try:
                unknown = await self._pools[pool].unknown(list(executions))
            except OrchxError as error:
                logger.warning("pool unreachable", pool=pool, error=str(error))
                continue
            for live in {id(x): x for x in (executions[e] for e in unknown)}.values():
                if self._live.get(live.workflow_id) is live:
                    self._post(live, m.Resume())

    async def run(self) -> None:
        """Sweep until closed."""
        self.hello()
        while not self._closed:
            await self._clock.sleep(self._sweep.interval_ms / 1000)
            await self.sweep()

    def close(self) -> None:
        """Stop: nothing more is decided or sent."""
        self._closed = True
        for live in list(self._live.values()):
            self._drop(live)
        for task in self._tasks:
            task.cancel()

    def _spawn(self, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            logger.error("owner's work failed", exc_info=task.exception())
