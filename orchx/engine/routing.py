"""Who listens for an event, and which definition a child runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

import msgspec
import structlog

from orchx.domain import faults
from orchx.domain import messages as m
from orchx.domain.keys import (
    child_finished_command_id,
    event_command_id,
    relayed_event_command_id,
)
from orchx.errors import Conflict
from orchx.ports.catalog import StoredDefinition
from orchx.ports.command_queue import CommandQueue
from orchx.ports.event_log import EventLog

logger = structlog.get_logger(__name__)

PART_COMMANDS = 1_000
PART_BYTES = 8 * 1_048_576


class Subscriptions:
    """Which workflows listen for which event types."""

    def __init__(self) -> None:
        self._by_type: dict[str, set[str]] = {}
        self._any: set[str] = set()
        self._types: dict[str, set[str]] = {}

    def add(self, workflow_id: str, types: Sequence[str]) -> None:
        """Note that a workflow listens for these types (none: for any)."""
        if not types or "*" in types:
            self._any.add(workflow_id)
            return
        self._types.setdefault(workflow_id, set()).update(types)
        for kind in types:
            self._by_type.setdefault(kind, set()).add(workflow_id)

    def remove(self, workflow_id: str) -> None:
        """Forget a workflow."""
        self._any.discard(workflow_id)
        for kind in self._types.pop(workflow_id, ()):
            listeners = self._by_type[kind]
            listeners.discard(workflow_id)
            if not listeners:
                del self._by_type[kind]

    def listeners(self, kind: str) -> list[str]:
        """Return the workflows that listen for events of a type."""
        return sorted(self._any | self._by_type.get(kind, set()))

    def addressed_in_parts(
        self, broadcast: m.DeliverEvent, among: Callable[[str], bool]
    ) -> Iterator[list[m.DeliverEvent]]:
        """Yield one command per workflow that listens, as many at a time as one write takes.

        Of those only that are `among` the wanted.

        However many listen, none is left out, and neither a write nor a turn is for all of them.
        """
        event = broadcast.event
        kind, source, event_id = (str(event.get(k, "")) for k in ("type", "source", "id"))
        listeners = [one for one in self.listeners(kind) if among(one)]
        room = PART_BYTES // len(msgspec.json.encode(event))
        count = min(max(room, 1), PART_COMMANDS)
        for start in range(0, len(listeners), count):
            yield [
                msgspec.structs.replace(
                    broadcast,
                    id=event_command_id(workflow_id, source, event_id),
                    workflow_id=workflow_id,
                    broadcast=True,
                    partition=None,
                )
                for workflow_id in listeners[start : start + count]
            ]


class FindsDefinitions(Protocol):
    """Knows which version and digest a definition's name stands for."""

    async def find(
        self, namespace: str, name: str, version: str = "latest"
    ) -> StoredDefinition | None:
        """Return a version, with or without its source; `latest` as `Catalog.find` has it."""
        ...


class Resolver:
    """Turns what workflows cause into commands that can be queued.

    Args:
        definitions: those of children.
        queue: has their starts, until those are applied and forgotten.
        log: has every child that has begun.
    """

    def __init__(self, definitions: FindsDefinitions, queue: CommandQueue, log: EventLog) -> None:
        self._definitions = definitions
        self._queue = queue
        self._log = log

    async def resolve(self, command: m.AnyCommand) -> m.AnyCommand | None:
        """Return the command with the digest of its definition filled in.

        A child whose definition does not exist becomes the news to its parent that it failed;
        None where nobody waits for it, and for a child that was started while there was one. A
        child that was never started is not cancelled either: nobody would ever take that.
        """
        if isinstance(command, m.CancelWorkflow):
            return command if await self._is_known(command.workflow_id) else None
        if not isinstance(command, m.StartWorkflow) or command.digest:
            return command
        found = await self._definitions.find(command.namespace, command.name, command.version)
        if found is not None:
            return msgspec.structs.replace(command, version=found.version, digest=found.digest)
        parent = command.request.parent
        if parent is None or await self._is_known(command.workflow_id):
            return None
        detail = f"there is no definition {command.namespace}/{command.name}:{command.version}"
        return m.FinishChild(
            id=child_finished_command_id(command.workflow_id),
            workflow_id=parent.workflow_id,
            created_at_ms=command.created_at_ms,
            frame=parent.frame,
            error=faults.standard(faults.CONFIGURATION, "No such definition", detail=detail),
        )

    async def _is_known(self, child_id: str) -> bool:
        """Return whether a child was started; it runs what it was started with, or has."""
        if await self._queue.find(child_id) is not None:
            return True
        return bool(await self._log.epochs([child_id]))


async def put_known(
    queue: CommandQueue, commands: Sequence[m.AnyCommand]
) -> Sequence[m.AnyCommand]:
    """Queue what workflows caused; returns what was not in the queue before.

    An id that is known with another content is the same thing, told differently: an event
    emitted again by a retry, a child whose `latest` version has changed. The first one counts.
    What was there before has been offered, or the audit will find that it was not.
    """
    try:
        accepted = await queue.put(commands)
    except Conflict:
        stored: list[m.AnyCommand] = []
        for command in commands:
            try:
                (one,) = await queue.put([command])
            except Conflict:
                logger.info("command known with another content", command_id=command.id)
            else:
                stored += [] if one.duplicate else [command]
        return stored
    return [c for c, a in zip(commands, accepted, strict=True) if not a.duplicate]


def broadcast_command(event: dict[str, object], now_ms: int) -> m.DeliverEvent:
    """Return the command that hands an emitted event to everyone who listens for it."""
    source, event_id = str(event.get("source", "")), str(event.get("id", ""))
    return m.DeliverEvent(
        id=event_command_id("", source, event_id),
        workflow_id="",
        created_at_ms=now_ms,
        event=event,
    )


def relayed_commands(
    broadcast: m.DeliverEvent, partitions: Sequence[int]
) -> Sequence[m.DeliverEvent]:
    """Return the commands that hand a broadcast on to those who listen in other partitions."""
    source, event_id = (str(broadcast.event.get(key, "")) for key in ("source", "id"))
    return [
        msgspec.structs.replace(
            broadcast,
            id=relayed_event_command_id(source, event_id, partition),
            partition=partition,
        )
        for partition in partitions
    ]
