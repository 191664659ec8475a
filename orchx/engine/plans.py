"""Parsed plans by digest, so that each is read and parsed once per process."""

from __future__ import annotations

import json
from collections import OrderedDict
from dataclasses import dataclass

from orchx.domain.document import Definition
from orchx.domain.document_parser import parse_definition
from orchx.errors import InvalidDocument, NotFound
from orchx.ports.catalog import Catalog
from orchx.ports.event_log import EventLog

MAX_PLANS = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A definition ready to run, and the canonical JSON under which the log pins it."""

    definition: Definition
    source: bytes


class Plans:
    """Finds plans: in memory, pinned in the log, or in the catalog. Bounded, oldest out first."""

    def __init__(self, log: EventLog, catalog: Catalog) -> None:
        self._log = log
        self._catalog = catalog
        self._plans: OrderedDict[str, Plan] = OrderedDict()

    def known(self, digest: str) -> Plan | None:
        """Return a plan that is in memory already."""
        plan = self._plans.get(digest)
        if plan is not None:
            self._plans.move_to_end(digest)
        return plan

    async def pinned(self, digest: str) -> Plan:
        """Return the plan that a workflow in the log runs.

        Raises:
            NotFound: the log has no such plan: the log is damaged.
            CallerError: it cannot be read, by this release or at all.
        """
        plan = self.known(digest)
        if plan is not None:
            return plan
        source = await self._log.definition(digest)
        if source is None:
            raise NotFound(f"no plan with digest {digest} is pinned in the log")
        return self._keep(digest, source)

    async def published(self, namespace: str, name: str, version: str, digest: str) -> Plan:
        """Return the plan of a definition that the catalog holds, or the log has pinned.

        Raises:
            NotFound: neither has it.
        """
        plan = self.known(digest)
        if plan is not None:
            return plan
        stored = await self._catalog.find(namespace, name, version)
        if stored is not None and stored.digest == digest:
            return self._keep(digest, stored.source)
        return await self.pinned(digest)

    def _keep(self, digest: str, source: bytes) -> Plan:
        try:
            document = json.loads(source)
        except ValueError as error:
            raise InvalidDocument(f"the plan with digest {digest} is damaged: {error}") from error
        plan = Plan(definition=parse_definition(document), source=source)
        self._plans[digest] = plan
        if len(self._plans) > MAX_PLANS:
            self._plans.popitem(last=False)
        return plan
