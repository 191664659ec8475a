"""The Dispatcher: takes commands, places workflows, supervises owners.

It holds nothing that the command queue, the log and the projection could not tell it
again: after a crash it recovers from those, while the owners go on by themselves.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence

import structlog

from orchx.domain import messages as m
from orchx.engine.placement import Entry, Station
from orchx.engine.roster import Roster
from orchx.engine.routing import (
    Resolver,
    Subscriptions,
    broadcast_command,
    put_known,
    relayed_commands,
)
from orchx.engine.watchers import Watchers
from orchx.errors import OrchxError
from orchx.ports.clock import Clock
from orchx.ports.command_queue import CommandQueue
from orchx.ports.membership import Membership
from orchx.ports.supervision import Ending, Load, OwnerReport

logger = structlog.get_logger(__name__)

LOST_PAUSE_S = 0.5
MAX_LOST_PAUSE_S = 30.0
MAX_DOUBLINGS = 10
ACKNOWLEDGE_PAUSE_S = 0.02


class Dispatcher:
    """Routes commands and reports. `Supervision` fills it at start and watches over it.

    Args:
        queue: where commands are durable.
        roster: every workflow of the partitions that are held, unless it is over.
        resolver: finds the definitions of child workflows.
        clock: time.
        membership: says which partition a command is in.
    """

    def __init__(
        self,
        *,
        queue: CommandQueue,
        roster: Roster,
        resolver: Resolver,
        clock: Clock,
        membership: Membership,
    ) -> None:
        self.roster = roster
        self.held: dict[int, int] = {}
        """The partitions of the queue that this engine serves, each with the number of its term."""

        self.watchers = Watchers(clock)
        self.subscriptions = Subscriptions()
        self._queue = queue
        self._resolver = resolver
        self._clock = clock
        self.membership = membership
        self._acknowledged: dict[str, None] = {}  # in order
        self._acknowledging = False
        self._broadcasting: set[str] = set()
        self._terms = 0
        self._tasks: set[asyncio.Task[None]] = set()

    # -- commands --------------------------------------------------------------------------

    def offer(
        self, commands: Iterable[m.AnyCommand], *, watcher: str = "", watched: Sequence[str] = ()
    ) -> Load:
        """Take durable commands. A repeated one is known by its id.

        Those of partitions that are not held are left to whoever holds them: the queue has them.

        Args:
            commands: in the queue already.
            watcher: who wants to hear of endings, if anyone.
            watched: of which workflows.
        """
        if watched:
            self.watch(watcher, watched)
        for command in commands:
            if self.membership.partition_of(command) not in self.held:
                continue
            if isinstance(command, m.DeliverEvent) and not command.workflow_id:
                if command.id not in self._broadcasting:  # an audit offers it once more
                    self._broadcasting.add(command.id)
                    self._spawn(self._broadcast(command))
            else:
                self.roster.add_command(self._entry_for(command), command)
        return self.load()

    def watch(self, watcher: str, workflow_ids: Sequence[str]) -> list[str]:
        """Have a watcher told of endings; returns the ids that are not known here (any more)."""
        self.watchers.watch(watcher, workflow_ids)
        unknown = []
        for workflow_id in workflow_ids:
            entry = self.roster.entries.get(workflow_id)
            if entry is None:
                unknown.append(workflow_id)
            elif not entry.watched:
                entry.watched = True
                if entry.owner is not None:
                    self.roster.resend(entry, claim=True)
        return unknown

    def knows(self, command_id: str) -> bool:
        """Return whether a command is here, or was and is about to be acknowledged."""
        return (
            command_id in self._broadcasting
            or command_id in self._acknowledged
            or self.roster.has_command(command_id)
        )

    def holds(self, workflow_id: str) -> bool:
        """Return whether a workflow is in a partition that is held."""
        return self.membership.partition_of_workflow(workflow_id) in self.held

    def load(self) -> Load:
        """Return how much waits and runs."""
        return Load(
            waiting=self.roster.waiting,
            by_tenant=dict(self.roster.waiting_by_tenant),
            running=self.roster.stations.held,
        )

    def _entry_for(self, command: m.AnyCommand) -> Entry:
        entry = self.roster.entries.get(command.workflow_id)
        if entry is None:
            entry = Entry(command.workflow_id)
            entry.watched = self.watchers.watched(command.workflow_id)
            entry.fresh = isinstance(command, m.StartWorkflow)
        if isinstance(command, m.StartWorkflow) and command.id not in entry.commands:
            return self.roster.book(entry, command.request)
        return entry

    async def _broadcast(self, command: m.DeliverEvent) -> None:
        """Hand an event to everyone who listens; done once each has it durably.

        Who listens in the partitions of other engines, those know.
        """
        served = dict(self.held)
        partition = command.partition
        try:
            for part in self.subscriptions.addressed_in_parts(command, self._is_among(partition)):
                self.offer(await put_known(self._queue, part))
            # whoever took one over meanwhile has to look who listens there
            served = {key: term for key, term in served.items() if self.held.get(key) == term}
            wanted = range(self.membership.count) if partition is None else ()
            relayed = relayed_commands(command, [key for key in wanted if key not in served])
            if relayed:
                self.offer(await put_known(self._queue, relayed))
        finally:
            self._broadcasting.discard(command.id)
        self.acknowledge([command.id])

    def _is_among(self, partition: int | None) -> Callable[[str], bool]:
        """Return what says of a workflow whether it is in a partition; None: in any."""
        if partition is None:
            return lambda workflow_id: True
        of = self.membership.partition_of_workflow
        return lambda workflow_id: of(workflow_id) == partition

    # -- partitions ------------------------------------------------------------------------

    def serve(self, partitions: Iterable[int]) -> None:
        """Take commands of these partitions; what is known of them is in the books."""
        for partition in partitions:
            self._terms += 1
            self.held[partition] = self._terms

    def leave(self, partitions: Iterable[int]) -> Mapping[str, Sequence[str]]:
        """Take commands of these partitions no more, and strike their workflows off the books.

        Returns:
            by owner, which workflows it had.
        """
        left = set(partitions)
        for partition in left:
            self.held.pop(partition, None)
        by_owner: dict[str, list[str]] = {}
        for workflow_id, entry in list(self.roster.entries.items()):
            if self.membership.partition_of_workflow(workflow_id) in left:
                if entry.owner is not None:
                    by_owner.setdefault(entry.owner, []).append(workflow_id)
                self.roster.remove(workflow_id)
                self.subscriptions.remove(workflow_id)
        self.roster.forget_removed()
        return by_owner

    # -- reports ---------------------------------------------------------------------------

    def report(self, report: OwnerReport) -> None:
        """Take an owner's report.

        What an owner says of a workflow that it was not given is not believed.
        """
        station = self.roster.stations.by_name.get(report.owner)
        if station is None:
            logger.warning("report of an unknown owner", owner=report.owner)
            return
        station.last_contact_ms = self._clock.ticks_ms()
        if report.hello or station.incarnation != report.incarnation:
            self.renewed(station, report.incarnation)
        for command_id in report.applied:
            self.roster.applied(command_id)
        for subscription in report.listening:
            if subscription.workflow_id in self.roster.entries:
                self.subscriptions.add(subscription.workflow_id, subscription.types)
        for passivation in report.passivated:
            entry = self._held(passivation.workflow_id, station)
            if entry is not None:
                self.subscriptions.remove(passivation.workflow_id)
                if passivation.listens:
                    self.subscriptions.add(passivation.workflow_id, passivation.listens)
                self.roster.sleep(entry, passivation.due_at_ms)
        for workflow_id in report.lost:
            entry = self._held(workflow_id, station)
            if entry is not None:
                self.roster.release(entry)
                self.roster.place_soon()
                self._spawn(self._place_later(entry))
        for ending in report.ended:
            if self._held(ending.workflow_id, station) is not None:
                self.ended(ending)
        self.acknowledge(report.applied)
        if report.commands or report.published:
            self._spawn(self._originate(report))

    def note_listeners(self, report: OwnerReport) -> None:
        """Take from a report who listens, and believe nothing else of it.

        One too many costs a workflow a look at an event that is not for it.
        """
        for subscription in report.listening:
            self.subscriptions.add(subscription.workflow_id, subscription.types)
        for passivation in report.passivated:
            if passivation.listens:
                self.subscriptions.add(passivation.workflow_id, passivation.listens)

    def renewed(self, station: Station, incarnation: str) -> None:
        """An owner has (re)started: whatever it held is sent to it again."""
        known, station.incarnation = station.incarnation, incarnation
        station.reachable = True
        if known not in ("", incarnation):  # its hello may come after it has answered
            logger.warning("owner restarted", owner=station.link.name, held=len(station.held))
        for workflow_id in list(station.held):
            self.roster.resend(self.roster.entries[workflow_id], claim=True)
        self.roster.place_soon()

    def ended(self, ending: Ending) -> None:
        """Take a workflow off the books, and tell whoever waits."""
        late = self.roster.remove(ending.workflow_id)
        self.subscriptions.remove(ending.workflow_id)
        self.watchers.ended(ending)
        self.acknowledge(late)

    def _held(self, workflow_id: str, station: Station) -> Entry | None:
        entry = self.roster.entries.get(workflow_id)
        return entry if entry is not None and entry.owner == station.link.name else None

    async def _place_later(self, entry: Entry) -> None:
        """Place a lost workflow again, after a pause: what failed now may fail again at once."""
        pause_s = min(LOST_PAUSE_S * 2**entry.lost, MAX_LOST_PAUSE_S)
        entry.lost = min(entry.lost + 1, MAX_DOUBLINGS)
        entry.paused = True
        await self._clock.sleep(pause_s)
        entry.paused = False
        if self.roster.entries.get(entry.workflow_id) is entry:
            self.roster.seek_place(entry)

    async def _originate(self, report: OwnerReport) -> None:
        """Queue what workflows caused. If this fails, the projector does it again."""
        now_ms = self._clock.now_ms()
        commands: list[m.AnyCommand] = [broadcast_command(e, now_ms) for e in report.published]
        for command in report.commands:
            resolved = await self._resolver.resolve(command)
            if resolved is not None:
                commands.append(resolved)
        if commands:
            self.offer(await put_known(self._queue, commands))

    def acknowledge(self, command_ids: Sequence[str]) -> None:
        """Have the queue told that commands are in the log, or too late."""
        if not command_ids:
            return
        self._acknowledged.update(dict.fromkeys(command_ids))
        if not self._acknowledging:
            self._acknowledging = True
            self._spawn(self._acknowledge_all())

    async def _acknowledge_all(self) -> None:
        """Tell the queue, in batches; a lost acknowledgement is made again after a restart."""
        await self._clock.sleep(ACKNOWLEDGE_PAUSE_S)
        self._acknowledging = False
        await self.settle()

    async def settle(self) -> None:
        """Tell the queue now what is to be acknowledged.

        Raises:
            OrchxError: it is told so with the next batch.
        """
        batch, self._acknowledged = self._acknowledged, {}
        try:
            await self._queue.acknowledge(list(batch))
        except OrchxError:
            self._acknowledged = batch | self._acknowledged
            raise

    # -- life ------------------------------------------------------------------------------

    def close(self) -> None:
        """Stop: nothing more is placed or sent."""
        self.roster.close()
        for task in self._tasks:
            task.cancel()

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(self._guarded(work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _guarded(self, work: Coroutine[None, None, None]) -> None:
        try:
            await work
        except OrchxError as error:
            # what it was about is durable; audit and projector bring it up again
            logger.error("background work failed", error=str(error))
        except Exception:  # this actor's edge: it must not vanish
            logger.exception("background work failed")
