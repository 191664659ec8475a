"""What the simulator found, each in its smallest form."""

import asyncio

import pytest

from orchx.domain import messages as m
from orchx.engine.activation import Activator
from orchx.engine.admission import Admission
from orchx.engine.endings import DispatcherMail
from orchx.engine.plans import Plans
from orchx.engine.routing import put_known
from orchx.errors import NotFound, Overloaded
from orchx.ports.supervision import Load
from orchx.settings import AdmissionSettings
from orchx.testing.memory_catalog import MemoryCatalog
from orchx.testing.memory_command_queue import MemoryCommandQueue
from orchx.testing.memory_event_log import MemoryEventLog
from orchx.testing.virtual_clock import VirtualClock


def event(command_id: str, n: int) -> m.DeliverEvent:
    return m.DeliverEvent(id=command_id, workflow_id="", created_at_ms=1, event={"n": n})


async def test_an_event_emitted_again_with_another_content_stops_nobody() -> None:
    queue = MemoryCommandQueue()
    await queue.put([event("a", 1)])
    assert await put_known(queue, [event("a", 2), event("b", 1)]) == [event("b", 1)]
    assert await queue.find("a") == event("a", 1)


async def test_taking_up_what_was_never_started_leaves_nothing_in_the_log() -> None:
    log = MemoryEventLog()
    activator = Activator("owner#1", log, Plans(log, MemoryCatalog()), None, None)  # type: ignore[arg-type]
    with pytest.raises(NotFound):
        await activator.take_up("wf_unknown")
    assert await log.last_offset() == 0


def test_the_same_load_does_not_make_room_again() -> None:
    admission = Admission(AdmissionSettings(backlog_limit=4, tenant_share=0.5))
    load = Load(waiting=0, by_tenant={}, running=0)
    for _ in range(2):
        admission.update(load)
        admission.check({"acme": 1}, [], 0)
    admission.update(load)
    with pytest.raises(Overloaded):
        admission.check({"acme": 1}, [], 0)


async def test_an_empty_offer_brings_a_new_load() -> None:
    class Link:
        async def offer(self, commands: object, *, watcher: str, watched: object) -> Load:
            return Load(waiting=7, by_tenant={}, running=0)

    mail = DispatcherMail(Link(), "w", VirtualClock())  # type: ignore[arg-type]
    mail.offer([])
    for _ in range(3):
        await asyncio.sleep(0)
    assert mail.load.waiting == 7
