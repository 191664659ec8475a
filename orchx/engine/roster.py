"""Every workflow that is not over: where it is, what waits for it, when it is due.

The Dispatcher decides; the roster keeps the books, places workflows on owners and sends
each owner what is for it, once per turn of the event loop.
"""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable, Iterable
from dataclasses import replace

import structlog

from orchx.domain.events import Request
from orchx.domain.messages import AnyCommand, StartWorkflow
from orchx.engine.command_shelf import CommandShelf, weight_of
from orchx.engine.placement import Entry, Station, Stations, WaitingRoom
from orchx.errors import Bug, OrchxError
from orchx.ports.clock import Clock
from orchx.ports.command_queue import CommandQueue
from orchx.ports.supervision import Assignment

logger = structlog.get_logger(__name__)

MAX_TIMER_S = 3600.0
MAX_FETCHES = 16  # workflows whose commands are read from the queue at once


class Roster:
    """Entries by workflow id.

    Args:
        stations: the owners.
        queue: has every command that is not in the log.
        clock: time.
        running_limit: how many fresh workflows are placed at once.
        memory_bytes: how much of commands is kept here, and how much what is placed at once
            may have been started with.
    """

    def __init__(
        self,
        stations: Stations,
        queue: CommandQueue,
        clock: Clock,
        *,
        running_limit: int,
        memory_bytes: int,
    ) -> None:
        self.stations = stations
        self.entries: dict[str, Entry] = {}
        self.waiting_by_tenant: dict[str, int] = {}
        self._alone = WaitingRoom()  # for a dedicated owner
        self._sharing = WaitingRoom()
        self._clock = clock
        self._running_limit = running_limit
        self._memory_bytes = memory_bytes
        self._placed_bytes = 0
        self._shelf = CommandShelf(queue, memory_bytes)
        self._fetches: set[asyncio.Task[None]] = set()
        self._fetch_slots = asyncio.Semaphore(MAX_FETCHES)
        self._command_of: dict[str, str] = {}  # command id -> workflow id
        self._outgoing: dict[str, list[Assignment]] = {}
        self._due: list[tuple[int, str]] = []
        self._timer: asyncio.TimerHandle | None = None
        self._planned = False

    # -- entries ---------------------------------------------------------------------------

    def add_command(self, entry: Entry, command: AnyCommand) -> bool:
        """Give a command to a workflow, new or known; False if it has it already."""
        if command.id in self._command_of:
            return False
        entry = self.entries.setdefault(entry.workflow_id, entry)
        weight = weight_of(command)
        self._shelf.put(command, weight)
        entry.commands[command.id] = None
        self._command_of[command.id] = entry.workflow_id
        if isinstance(command, StartWorkflow):
            if entry.owner is not None:
                self._placed_bytes += weight - entry.bytes
            entry.bytes = weight
        if entry.fetching or (entry.behind and entry.owner is not None):
            return True  # it goes after those before it
        if entry.owner is not None:
            self._send(entry, [command])
        else:
            self.seek_place(entry)
        return True

    def book(self, entry: Entry, request: Request) -> Entry:
        """Note what a workflow was asked for; return its entry, which may be another now.

        One that waits already, for the sake of a command that came before its start, goes to
        the place among those that wait which is its own.
        """
        waited = entry.queued
        if waited:  # the old one is passed over where it stands
            entry = replace(entry, queued=False, fetching=False, paused=False)
            self.entries[entry.workflow_id] = entry
        entry.tenant = request.tenant
        entry.priority = request.priority
        entry.deadline_ms = request.deadline_ms
        entry.isolation = request.isolation
        if waited:
            self.seek_place(entry)
        return entry

    def applied(self, command_id: str) -> None:
        """Forget a command that is in the log."""
        workflow_id = self._command_of.pop(command_id, None)
        entry = self.entries.get(workflow_id or "")
        if entry is not None:
            entry.commands.pop(command_id, None)
            self._shelf.drop(command_id)
            entry.lost = 0
            if command_id == workflow_id:
                entry.fresh = False  # it has begun: if it is displaced, it goes first

    def remove(self, workflow_id: str) -> list[str]:
        """Forget a workflow that is over; returns the ids of commands that came too late."""
        entry = self.entries.pop(workflow_id, None)
        if entry is None:
            return []
        self.release(entry)
        for command_id in entry.commands:
            self._command_of.pop(command_id, None)
            self._shelf.drop(command_id)
        self.place_soon()
        return list(entry.commands)

    def forget_removed(self) -> None:
        """Forget of those not in the books that they wait, or when they are due.

        Else it is forgotten when it is their turn, which may be long after.
        """
        for room in (self._alone, self._sharing):
            for entry in room.retain(lambda one: self.entries.get(one.workflow_id) is one):
                self._count(entry, -1)
        self._due = [one for one in self._due if one[1] in self.entries]
        heapq.heapify(self._due)
        self._arm()

    def has_command(self, command_id: str) -> bool:
        """Return whether a command is here and not known to be in the log."""
        return command_id in self._command_of

    @property
    def waiting(self) -> int:
        """How many workflows wait for a place."""
        return len(self._alone) + len(self._sharing)

    @property
    def kept_bytes(self) -> int:
        """How much of commands is kept in memory."""
        return self._shelf.bytes

    @property
    def placed_bytes(self) -> int:
        """How much the placed workflows were started with."""
        return self._placed_bytes

    def _count(self, entry: Entry, change: int) -> None:
        count = self.waiting_by_tenant.get(entry.tenant, 0) + change
        if count:
            self.waiting_by_tenant[entry.tenant] = count
        else:
            self.waiting_by_tenant.pop(entry.tenant, None)

    # -- places ----------------------------------------------------------------------------

    def seek_place(self, entry: Entry) -> None:
        """Have a workflow placed as soon as there is room for it."""
        self.entries.setdefault(entry.workflow_id, entry)
        if entry.owner is None and not entry.queued:
            room = self._alone if self.stations.alone(entry) else self._sharing
            room.push(entry)
            self._count(entry, 1)
            self.place_soon()

    def rescue(self, ours: Callable[[str], bool]) -> None:
        """Have those of ours placed that nobody has or brings: there should be none."""
        for entry in self.entries.values():
            nowhere = entry.owner is None and not (entry.queued or entry.passive or entry.paused)
            if nowhere and ours(entry.workflow_id):
                logger.warning("nobody had this workflow", workflow_id=entry.workflow_id)
                self.seek_place(entry)

    def settle_at(self, entry: Entry, station: Station) -> None:
        """Note that an owner has this workflow already."""
        self.entries[entry.workflow_id] = entry
        self._placed_bytes += entry.bytes
        entry.owner = station.link.name
        entry.placement += 1
        entry.passive = False
        entry.due_at_ms = None
        station.held.add(entry.workflow_id)

    def displace(self, entry: Entry) -> None:
        """Take a workflow from its owner, to be placed again."""
        self.release(entry)
        self.seek_place(entry)

    def sleep(self, entry: Entry, due_at_ms: int | None) -> None:
        """Note that a workflow is passive until `due_at_ms` or a command."""
        self.release(entry)
        entry.fresh = False
        entry.lost = 0  # an owner has had it, and let it go in good order
        entry.passive = True
        entry.due_at_ms = due_at_ms
        if entry.commands:
            self.seek_place(entry)
        elif due_at_ms is not None and due_at_ms != entry.timer_ms:
            entry.timer_ms = due_at_ms
            heapq.heappush(self._due, (due_at_ms, entry.workflow_id))
            self._arm()
        self.place_soon()

    def resend(self, entry: Entry, *, claim: bool = False) -> None:
        """Send a placed workflow's commands again (`claim`: the workflow too)."""
        entry.placement += claim
        if entry.commands or claim:
            self._send_all(entry)

    def place_soon(self) -> None:
        """Place what waits, and send, at the end of this turn of the event loop."""
        if not self._planned:
            self._planned = True
            asyncio.get_running_loop().call_soon(self._place_and_send)

    def close(self) -> None:
        """Stop waking and sending."""
        self._planned = True
        if self._timer is not None:
            self._timer.cancel()
        for task in self._fetches:
            task.cancel()

    def release(self, entry: Entry) -> None:
        """Take a workflow from its owner, without looking for another."""
        if entry.owner is not None:
            self.stations.by_name[entry.owner].held.discard(entry.workflow_id)
            self._placed_bytes -= entry.bytes
            entry.owner = None

    def _place_and_send(self) -> None:
        self._planned = False
        self._place_from(self._alone)
        self._place_from(self._sharing)
        outgoing, self._outgoing = self._outgoing, {}
        for name, assignments in outgoing.items():
            self.stations.by_name[name].link.deliver(assignments)

    def _place_from(self, room: WaitingRoom) -> None:
        """Place what waits in a room until the next one finds no owner."""
        while len(room):
            entry = room.first()
            if self.entries.get(entry.workflow_id) is entry and entry.owner is None:
                if entry.fresh and self._is_full_for(entry):
                    return
                station = self.stations.choose(entry)
                if station is None:
                    return
                self.settle_at(entry, station)
                self._send_all(entry)
            room.pop()
            self._count(entry, -1)

    def _is_full_for(self, entry: Entry) -> bool:
        """Return whether a fresh workflow has to wait until others are over."""
        if self.stations.held >= self._running_limit:
            return True
        return self._placed_bytes > 0 and self._placed_bytes + entry.bytes > self._memory_bytes

    def _send_all(self, entry: Entry) -> None:
        """Send a workflow with its commands, which may have to be fetched first."""
        commands = self._shelf.all_of(list(entry.commands))
        if commands is not None and not entry.fetching:
            entry.behind = False
            self._send(entry, commands or [None])
        elif not entry.fetching:
            entry.fetching = True
            entry.sent_ms = self._clock.ticks_ms()
            task = asyncio.get_running_loop().create_task(self._fetch_and_send(entry))
            self._fetches.add(task)
            task.add_done_callback(self._fetches.discard)

    async def _fetch_and_send(self, entry: Entry) -> None:
        """Send what is in the queue only, oldest first and a part at a time.

        If the queue cannot be read now, a sweep begins again.
        """
        entry.behind = True
        try:
            async with self._fetch_slots:
                while entry.behind and self._is_at(entry, entry.placement):  # where it is now
                    entry.behind = not await self._send_in_parts(entry)
        except OrchxError as error:
            logger.warning("commands not fetched", error=str(error))
        finally:
            entry.fetching = False
        if self.entries.get(entry.workflow_id) is entry and entry.commands:
            self.seek_place(entry)  # unless it has one

    async def _send_in_parts(self, entry: Entry) -> bool:
        """Return whether its owner was sent everything; not if it has lost its place meanwhile."""
        placement, sent = entry.placement, set[str]()
        while wanted := [key for key in entry.commands if key not in sent]:
            fetched, missing = await self._shelf.fetch(wanted)
            if not self._is_at(entry, placement):
                return False
            for command_id in missing:  # not even in the queue: applied long ago
                self.applied(command_id)
            sent.update(command.id for command in fetched)
            if fetched:
                self._send(entry, fetched)
                await asyncio.sleep(0)  # it leaves before the next part comes
                if not self._is_at(entry, placement):
                    return False
        if not sent:
            self._send(entry, [None])
        return True

    def _is_at(self, entry: Entry, placement: int) -> bool:
        """Return whether a workflow is still with the same owner, in the same life of it."""
        known = self.entries.get(entry.workflow_id) is entry
        return known and entry.owner is not None and entry.placement == placement

    def _send(self, entry: Entry, commands: Iterable[AnyCommand | None]) -> None:
        if entry.owner is None:
            raise Bug(f"{entry.workflow_id} has no owner to send to")
        entry.sent_ms = self._clock.ticks_ms()
        batch = self._outgoing.setdefault(entry.owner, [])
        for command in commands:
            batch.append(
                Assignment(workflow_id=entry.workflow_id, command=command, watched=entry.watched)
            )
        self.place_soon()

    # -- time ------------------------------------------------------------------------------

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._due:
            delay_s = max(0.0, (self._due[0][0] - self._clock.now_ms()) / 1000)
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(min(delay_s, MAX_TIMER_S), self._wake_due)

    def _wake_due(self) -> None:
        self._timer = None
        now_ms = self._clock.now_ms()
        while self._due and self._due[0][0] <= now_ms:
            due_at_ms, workflow_id = heapq.heappop(self._due)
            entry = self.entries.get(workflow_id)
            if entry is None:
                continue
            if entry.timer_ms == due_at_ms:
                entry.timer_ms = None
            if entry.owner is None and entry.due_at_ms == due_at_ms:
                self.seek_place(entry)
        self._arm()
