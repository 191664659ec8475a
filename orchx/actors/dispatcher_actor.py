"""The Dispatcher as an actor."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from orchx import bootstrap
from orchx.actors import names
from orchx.actors.links import RayOwnerLink, RayStateServiceLink
from orchx.actors.message_parts import first_message
from orchx.actors.shell import Shell
from orchx.adapters.system_clock import SystemClock
from orchx.domain.messages import AnyCommand
from orchx.engine.retention import forget_for_ever
from orchx.errors import Unavailable
from orchx.ports.supervision import OwnerReport
from orchx.settings import Settings

_encode = msgspec.msgpack.Encoder().encode
_decode_commands = msgspec.msgpack.Decoder(list[AnyCommand]).decode
_decode_report = msgspec.msgpack.Decoder(OwnerReport).decode
_decode_ids = msgspec.msgpack.Decoder(list[str]).decode


class DispatcherActor(Shell):
    """Wraps `Dispatcher`, `Supervision` and the `CommandRetention` of their queue."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(names.DISPATCHER, settings)
        timeout_s = settings.sweep.health_timeout_ms / 1000
        parts = bootstrap.build_dispatcher(
            settings,
            shared=[
                RayOwnerLink(self.handles, n, timeout_s) for n in names.shared_owners(settings)
            ],
            dedicated=[
                RayOwnerLink(self.handles, n, timeout_s) for n in names.dedicated_owners(settings)
            ],
            state=RayStateServiceLink(self.handles),
        )
        self._dispatcher = parts.dispatcher
        self._supervision = parts.supervision
        self._membership = parts.membership
        self._keeper = parts.keeper
        self._leaving = False
        roster = parts.dispatcher.roster
        self.metrics.gauge(
            "workflows_waiting", "Workflows that wait for a place", lambda: roster.waiting
        )
        self.metrics.gauge(
            "workflows_placed", "Workflows that an owner has", lambda: roster.stations.held
        )
        self.metrics.gauge(
            "workflows_known", "Workflows that are not over", lambda: len(roster.entries)
        )
        self.metrics.gauge(
            "partitions_held",
            "Partitions of the command queue that this engine serves",
            lambda: len(parts.dispatcher.held),
        )
        self.keep(self._run())
        self.keep(forget_for_ever(parts.retention, SystemClock()))

    async def _run(self) -> None:
        everyone = names.everything(self.settings)
        self.watch_over([name for name in everyone if name != names.DISPATCHER])
        self.keep(self._membership.run(self._keeper))
        self.keep(self._keeper.run())
        await self._membership.joined()
        await self._keeper.settled()  # which waits for the projector, frozen or not
        self._ready.set()
        self.push_metrics()
        await self._supervision.run()

    # Until it has recovered it does not know who listens and who is placed. What comes before
    # then is refused, not kept: it may be long, and everybody would send the same again.

    async def offer(self, commands: bytes, watcher: str, watched: bytes) -> bytes:
        """Take durable commands; returns the load."""
        self._refuse_until_ready()
        ids = _decode_ids(watched)
        load = self._dispatcher.offer(_decode_commands(commands), watcher=watcher, watched=ids)
        live = self._dispatcher.roster.entries
        self._dispatcher.watchers.forget(watcher, [i for i in ids if i not in live])
        return _encode(load)

    async def offered(self, commands: bytes) -> None:
        """Take durable commands from one who asks nothing; recovery or audit finds them too."""
        if self._ready.is_set():
            self._dispatcher.offer(_decode_commands(commands))

    async def report(self, report: bytes) -> None:
        """Take an owner's report; what it says can be learnt from queue, log and owner too.

        But for who listens: an event for all that comes right after recovery must find them.
        """
        told = _decode_report(report)
        if self._ready.is_set():
            self._dispatcher.report(told)
        else:
            self._dispatcher.note_listeners(told)

    async def watch(self, watcher: str, workflow_ids: bytes) -> Sequence[str]:
        """Have a watcher told of endings; returns what is not live."""
        self._refuse_until_ready()
        unknown = self._dispatcher.watch(watcher, _decode_ids(workflow_ids))
        self._dispatcher.watchers.forget(watcher, unknown)
        return unknown

    async def endings(self, watcher: str, timeout_s: float) -> bytes:
        """Return endings as they come, as many as fit into an answer."""
        watchers = self._dispatcher.watchers
        message, left = first_message(await watchers.endings(watcher, timeout_s))
        watchers.hand_back(watcher, left)
        return message

    async def leave(self) -> None:
        """Hand everything over to the other engines, if there are any: this one ends."""
        self._leaving = True
        await self._membership.leave()

    def _refuse_until_ready(self) -> None:
        if self._leaving:
            raise Unavailable("this engine is being stopped; another one takes over")
        if not self._ready.is_set():
            raise Unavailable("the dispatcher is recovering")
