"""The engine's links, over Ray: batches as bytes, to actors by name."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Collection, Mapping, Sequence

import msgspec

from orchx.actors import names
from orchx.actors.handles import Handles
from orchx.actors.message_parts import messages, report_messages
from orchx.domain.messages import AnyCommand, TaskOutcome, TaskRequest
from orchx.errors import Unavailable
from orchx.ports.supervision import Assignment, Ending, Load, OwnerReport, OwnerStatus

ASK_TIMEOUT_S = 3.0
POLL_MARGIN_S = 5.0

_encode = msgspec.msgpack.Encoder().encode
_decode_status = msgspec.msgpack.Decoder(OwnerStatus).decode
_decode_load = msgspec.msgpack.Decoder(Load).decode
_decode_offsets = msgspec.msgpack.Decoder(dict[int, int]).decode
_decode_endings = msgspec.msgpack.Decoder(list[Ending]).decode


class _ActorLink:
    """To one actor, by its name."""

    def __init__(self, handles: Handles, name: str, timeout_s: float) -> None:
        self._handles = handles
        self._name = name
        self._timeout_s = timeout_s

    @property
    def name(self) -> str:
        """The actor's name."""
        return self._name


class RayOwnerLink(_ActorLink):
    """From the Dispatcher to one owner."""

    def deliver(self, assignments: Sequence[Assignment]) -> None:
        """Push workflows and commands."""
        for message in messages(assignments):
            self._handles.push(self._name, "deliver", message)

    async def reconcile(self, expected: Sequence[str]) -> OwnerStatus:
        """Ask the owner what it holds."""
        answer = await self._handles.ask(
            self._name, "reconcile", _encode(expected), timeout_s=self._timeout_s
        )
        return _decode_status(answer)

    async def release(self, workflow_ids: Sequence[str]) -> None:
        """Have the owner let go of workflows."""
        await self._handles.ask(
            self._name, "release", _encode(workflow_ids), timeout_s=self._timeout_s
        )


class RayProcessLink(_ActorLink):
    """From the one that watches to any actor."""

    async def alive(self) -> None:
        """Return once the actor has answered."""
        await self._handles.ask(self._name, "alive", timeout_s=self._timeout_s)

    async def restart(self) -> None:
        """Kill the actor's process; Ray starts another."""
        await self._handles.restart(self._name)


class RaySupervisorLink:
    """From an owner to the Dispatcher."""

    def __init__(self, handles: Handles) -> None:
        self._handles = handles

    def report(self, report: OwnerReport) -> None:
        """Push a report."""
        for message in report_messages(report):
            self._handles.push(names.DISPATCHER, "report", message)


class RayPoolLink:
    """From an owner to the task pools.

    All calls of one service go to one pool, so that its limits are kept in one place;
    calls of no service are spread by workflow.
    """

    def __init__(self, handles: Handles, pools: Sequence[str]) -> None:
        self._handles = handles
        self._pools = pools

    def submit(self, requests: Sequence[TaskRequest]) -> None:
        """Push a batch to each pool that has a part in it."""
        if len(self._pools) == 1:
            self._submit_to(self._pools[0], requests)
            return
        batches: dict[str, list[TaskRequest]] = {}
        for request in requests:
            key = request.call.service or request.workflow_id
            pool = self._pools[zlib.crc32(key.encode()) % len(self._pools)]
            batches.setdefault(pool, []).append(request)
        for pool, batch in batches.items():
            self._submit_to(pool, batch)

    def _submit_to(self, pool: str, requests: Sequence[TaskRequest]) -> None:
        for message in messages(requests):
            self._handles.push(pool, "submit", message)

    def abandon(self, executions: Sequence[str]) -> None:
        """Tell every pool; those that do not have them do not mind."""
        for message in messages(executions):
            for pool in self._pools:
                self._handles.push(pool, "abandon", message)

    async def unknown(self, executions: Sequence[str]) -> Sequence[str]:
        """Return what no pool has."""
        missing = list(executions)
        for pool in self._pools:
            if missing:
                missing = await self._handles.ask(
                    pool, "unknown", _encode(missing), timeout_s=ASK_TIMEOUT_S
                )
        return missing


class RayOutcomeSink:
    """From a pool to the owners."""

    def __init__(self, handles: Handles) -> None:
        self._handles = handles

    def push(self, owner: str, outcomes: Sequence[TaskOutcome]) -> None:
        """Push a batch of outcomes."""
        for message in messages(outcomes):
            self._handles.push(owner, "outcomes", message)


class RayDispatcherLink:
    """From ingestion, and from the projector, to the Dispatcher."""

    def __init__(self, handles: Handles) -> None:
        self._handles = handles
        self._in_parts = asyncio.Lock()  # held while one offer goes in several messages
        self._behind = 0  # how many hold it, or wait for it
        self._failed = 0  # how many of them did not arrive

    async def offer(
        self, commands: Sequence[AnyCommand], *, watcher: str, watched: Sequence[str]
    ) -> Load:
        """Hand over durable commands; those who watch come last, when their workflows are known.

        A later offer does not overtake a part of an earlier one.
        """
        *earlier, last = messages(commands)
        if not earlier and not self._behind:
            return _decode_load(await self._offer(last, watcher, watched))
        self._behind += 1
        failed, arrived = self._failed, False
        try:
            async with self._in_parts:
                if failed != self._failed:
                    raise Unavailable("an offer before this one did not arrive")
                for message in earlier:
                    await self._offer(message, "", [])
                load = await self._offer(last, watcher, watched)
                arrived = True
                return _decode_load(load)
        finally:
            self._behind -= 1
            self._failed += not arrived

    async def _offer(self, commands: bytes, watcher: str, watched: Sequence[str]) -> bytes:
        load: bytes = await self._handles.ask(
            names.DISPATCHER,
            "offer",
            commands,
            watcher,
            _encode(watched),
            timeout_s=ASK_TIMEOUT_S,
        )
        return load

    async def watch(self, watcher: str, workflow_ids: Sequence[str]) -> Sequence[str]:
        """Ask to be told of endings."""
        unknown: Sequence[str] = await self._handles.ask(
            names.DISPATCHER, "watch", watcher, _encode(workflow_ids), timeout_s=ASK_TIMEOUT_S
        )
        return unknown

    async def endings(self, watcher: str, timeout_s: float) -> Sequence[Ending]:
        """Wait for endings."""
        return _decode_endings(
            await self._handles.ask(
                names.DISPATCHER,
                "endings",
                watcher,
                timeout_s,
                timeout_s=timeout_s + POLL_MARGIN_S,
            )
        )


class RayCommandSink:
    """From the projector to the Dispatcher: what it has queued already."""

    def __init__(self, handles: Handles) -> None:
        self._handles = handles

    def offer(self, commands: Sequence[AnyCommand]) -> None:
        """Push commands."""
        for message in messages(commands):
            self._handles.push(names.DISPATCHER, "offered", message)


class RayMetricsLink:
    """From any process to the hub, which lives with the projector."""

    def __init__(self, handles: Handles) -> None:
        self._handles = handles

    def push(self, process: str, exposition: bytes) -> None:
        """Push a snapshot."""
        self._handles.push(names.PROJECTOR, "metrics_pushed", process, exposition)


class RayStateServiceLink:
    """From the Dispatcher to the projector and the reporter."""

    def __init__(self, handles: Handles, timeout_s: float = 15.0) -> None:
        self._handles = handles
        self._timeout_s = timeout_s

    def serve(self, partitions: Collection[int]) -> None:
        """Push which partitions are this engine's."""
        message = _encode(sorted(partitions))
        self._handles.push(names.PROJECTOR, "serve", message)
        self._handles.push(names.REPORTER, "serve", message)

    async def barrier(self, partitions: Collection[int]) -> None:
        """Return when the projection holds what is in the log now of these partitions."""
        await self._handles.ask(
            names.PROJECTOR,
            "barrier",
            _encode(sorted(partitions)),
            timeout_s=self._timeout_s,
        )


class ProjectorQuestions:
    """What others ask the projector."""

    def __init__(self, handles: Handles, timeout_s: float = 10.0) -> None:
        self._handles = handles
        self._timeout_s = timeout_s

    async def check(self) -> None:
        """Return if projecting goes on."""
        await self._handles.ask(names.PROJECTOR, "check", timeout_s=self._timeout_s)

    async def barrier(self, partition: int) -> Mapping[int, int]:
        """Return when the projection holds what is in the partition now: up to where that is."""
        told: bytes = await self._handles.ask(
            names.PROJECTOR, "barrier", _encode([partition]), timeout_s=self._timeout_s
        )
        return _decode_offsets(told)

    async def exposition(self) -> bytes:
        """Return the metrics of all processes."""
        text: bytes = await self._handles.ask(
            names.PROJECTOR, "exposition", timeout_s=self._timeout_s
        )
        return text


def pool_links(handles: Handles, pools: Sequence[str]) -> Mapping[str, RayPoolLink]:
    """Return the links by pool name: both kinds of pool live in the same actors."""
    link = RayPoolLink(handles, pools)
    return {"io": link, "cpu": link}
