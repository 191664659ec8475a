"""The WorkflowActor: an owner of workflows as a Ray actor."""

from __future__ import annotations

import msgspec

from orchx import bootstrap
from orchx.actors import names
from orchx.actors.links import RaySupervisorLink, pool_links
from orchx.actors.shell import WORK_NICENESS, Shell
from orchx.domain.messages import TaskOutcome
from orchx.ports.supervision import Assignment
from orchx.settings import Settings

REFRESH_S = 0.5

_encode = msgspec.msgpack.Encoder().encode
_decode_assignments = msgspec.msgpack.Decoder(list[Assignment]).decode
_decode_outcomes = msgspec.msgpack.Decoder(list[TaskOutcome]).decode
_decode_ids = msgspec.msgpack.Decoder(list[str]).decode


class WorkflowActor(Shell):
    """Owns live workflows: one (dedicated) or many (shared), by what the Dispatcher sends."""

    def __init__(self, name: str, settings: Settings) -> None:
        super().__init__(name, settings, niceness=WORK_NICENESS)
        self._parts = bootstrap.build_owner(
            name,
            settings,
            pools=pool_links(self.handles, names.pools(settings)),
            supervisor=RaySupervisorLink(self.handles),
        )
        self._owner = self._parts.owner
        self.metrics.gauge(
            "owner_live_workflows", "Workflows in memory", lambda: len(self._owner.states())
        )
        self.keep(self._run())

    async def _run(self) -> None:
        await self._parts.refresh(self.settings)
        self._ready.set()
        self.push_metrics()
        self.keep(self.every(REFRESH_S, lambda: self._parts.refresh(self.settings)))
        await self._owner.run()

    async def deliver(self, assignments: bytes) -> None:
        """Take workflows and commands."""
        if not self._ready.is_set():
            await self._ready.wait()
        self._owner.deliver(_decode_assignments(assignments))

    async def outcomes(self, outcomes: bytes) -> None:
        """Take outcomes of calls."""
        self._owner.outcomes(_decode_outcomes(outcomes))

    async def release(self, workflow_ids: bytes) -> None:
        """Let go of workflows that another engine is to own."""
        await self._owner.release(_decode_ids(workflow_ids))

    async def reconcile(self, expected: bytes) -> bytes:
        """Renew the lease and compare."""
        await self._ready.wait()
        return _encode(self._owner.status(_decode_ids(expected)))
