"""The gateway of a process that reaches the engine through its actors."""

from __future__ import annotations

from orchx import bootstrap
from orchx.actors.handles import Handles
from orchx.actors.links import ProjectorQuestions, RayDispatcherLink
from orchx.engine.endings import DispatcherMail
from orchx.engine.gateway import EngineGateway
from orchx.settings import Settings


def open_gateway(settings: Settings, handles: Handles) -> tuple[EngineGateway, DispatcherMail]:
    """Return a gateway whose mail has begun; call it inside the event loop that uses it."""
    questions = ProjectorQuestions(handles)
    gateway, mail = bootstrap.build_gateway(
        settings,
        RayDispatcherLink(handles),
        barrier=questions.barrier,
        projecting=questions.check,
        exposition=questions.exposition,
    )
    mail.start()
    return gateway, mail
