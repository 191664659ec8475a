"""What every handler of the HTTP API works with."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeAlias

from orchx.domain.services import Service, check_secrets
from orchx.errors import Overloaded
from orchx.ports.gateway import Gateway
from orchx.serve.runnable_definitions import RunnableDefinitions
from orchx.settings import HttpSettings, PoolSettings

if TYPE_CHECKING:
    from orchx.domain.document import Definition


class ReadDefinition(Protocol):
    """Parses and checks a workflow document.

    Raises `InvalidDocument` or `UnsupportedFeature`.
    """

    def __call__(self, text: str, *, content_type: str) -> Definition:
        """Return the document, ready to run."""
        ...


class CheckCallback(Protocol):
    """Checks where a request wants to be told of its outcome.

    Raises `InvalidRequest` for a URL to which no callback can ever go.
    """

    def __call__(self, url: str, *, pointer: str) -> None:
        """Return if callbacks may go to `url`; `pointer` is where it stood."""
        ...


def any_callback(url: str, *, pointer: str) -> None:
    """Let any URL pass."""


class CheckServices(Protocol):
    """Checks services before they are stored.

    Raises `InvalidRequest` for one that asks for what it may not have.
    """

    def __call__(self, services: Sequence[Service]) -> None:
        """Return if all of them may be stored."""
        ...


def services_with_usual_secrets(services: Sequence[Service]) -> None:
    """Let services pass that ask for no variables but those of the default settings."""
    check_secrets(services, PoolSettings().secret_env)


Observe: TypeAlias = Callable[[str, str, int, float], None]


def unobserved(method: str, path: str, status: int, took_s: float) -> None:
    """Take note of nothing."""


class Slots:
    """A bound on how many requests may hold something for long."""

    def __init__(self, limit: int, what: str) -> None:
        self._limit = limit
        self._what = what
        self._taken = 0

    @contextmanager
    def take(self) -> Iterator[None]:
        """Hold one slot.

        Raises:
            Overloaded: all are taken.
        """
        if self._taken >= self._limit:
            raise Overloaded(f"{self._limit} {self._what} are open already", retry_after_s=5)
        self._taken += 1
        try:
            yield
        finally:
            self._taken -= 1

    @property
    def free(self) -> bool:
        """Tell whether a slot could be had."""
        return self._taken < self._limit


@dataclass(frozen=True, slots=True, kw_only=True)
class Api:
    """The engine, the settings, and what this process caches and counts."""

    gateway: Gateway
    settings: HttpSettings
    definitions: RunnableDefinitions
    read_definition: ReadDefinition
    check_callback: CheckCallback
    check_services: CheckServices
    observe: Observe
    now_ms: Callable[[], int]
    streams: Slots
    waits: Slots
