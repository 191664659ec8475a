"""Calls to named actors: found once, pushed to without an answer, or asked within a limit."""

from __future__ import annotations

import asyncio
from typing import Any

import ray
import structlog
from ray.actor import ActorHandle
from ray.exceptions import RayActorError, RayError, RayTaskError

from orchx.actors.channel import Channel
from orchx.actors.ray_session import node_id
from orchx.actors.socket_folders import socket_path
from orchx.errors import DriverError, NoAnswer, OrchxError, Unavailable
from orchx.settings import Settings

logger = structlog.get_logger(__name__)


class Handles:
    """The actors of one namespace, as one process reaches them.

    A handle stays good when its actor restarts. What is pushed while an actor is away is
    lost, which every receiver's protocol allows for.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._channels: dict[str, Channel | None] = {}
        self._handles: dict[str, ActorHandle[Any]] = {}
        self._pushes: dict[tuple[str, str], Any] = {}

    def push(self, actor: str, method: str, *arguments: bytes | str) -> None:
        """Call a method and forget about it; a call that cannot be made is dropped."""
        channel = self._channel(actor)
        if channel is not None and channel.push(method, arguments):
            return
        key = (actor, method)
        push = self._pushes.get(key)
        try:
            if push is None:
                handle = self._handle(actor)
                push = self._pushes[key] = getattr(handle, method).options(num_returns=0)
            push.remote(*arguments)
        except (Unavailable, RayError):
            self._pushes.pop(key, None)
            self._handles.pop(actor, None)

    async def ask(
        self, actor: str, method: str, *arguments: bytes | str | float, timeout_s: float
    ) -> Any:
        """Call a method and return its answer.

        Raises:
            NoAnswer: it was reached and did not answer in time.
            Unavailable: there is no such actor now.
            OrchxError: whatever the method raised.
        """
        try:
            channel = self._channel(actor)
            answer = None if channel is None else channel.ask(method, arguments)
            if answer is None:
                answer = getattr(self._handle(actor), method).remote(*arguments)
            return await asyncio.wait_for(answer, timeout_s)
        except TimeoutError as error:
            raise NoAnswer(f"{actor} gave no answer within {timeout_s:g} s") from error
        except RayTaskError as error:
            if isinstance(error.cause, OrchxError):
                raise error.cause from error
            raise Unavailable(f"{actor}.{method} failed: {error.cause!r}") from error
        except (RayActorError, RayError) as error:
            self._handles.pop(actor, None)
            raise Unavailable(f"{actor} cannot be reached: {type(error).__name__}") from error

    async def restart(self, actor: str) -> None:
        """Kill an actor's process, whatever it is doing; Ray starts another in its place.

        Raises:
            Unavailable: there is no such actor now.
        """
        handle = self._handle(actor)
        await asyncio.to_thread(ray.kill, handle, no_restart=False)

    def close(self) -> None:
        """End the direct connections; a later call would make them anew."""
        for channel in self._channels.values():
            if channel is not None:
                channel.close()

    def _channel(self, actor: str) -> Channel | None:
        """Return the way past Ray; None where there can be none."""
        if actor not in self._channels:
            settings = self._settings
            try:
                path = socket_path(settings.data_dir, settings.namespace, actor, node_id())
                self._channels[actor] = Channel(path)
            except (OSError, DriverError) as error:
                logger.warning("no direct channel", to=actor, error=str(error))
                self._channels[actor] = None
        return self._channels[actor]

    def _handle(self, actor: str) -> ActorHandle[Any]:
        handle = self._handles.get(actor)
        if handle is None:
            try:
                handle = ray.get_actor(actor, namespace=self._settings.namespace)
            except ValueError as error:
                raise Unavailable(f"there is no actor {actor} now") from error
            self._handles[actor] = handle
        return handle
