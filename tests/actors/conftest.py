"""One Ray for all tests of actors, and a namespace for each."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator

import pytest

from orchx.settings import Settings

_namespaces = itertools.count(1)


@pytest.fixture(scope="session")
def _ray() -> Iterator[None]:
    """One Ray for all tests: starting it takes longer than most of them."""
    # Not at the top: what needs no Ray does not wait for its import.
    import ray

    from orchx.actors.cluster import start_ray

    assert "RAY_ADDRESS" not in os.environ, "these tests start a Ray of their own"
    start_ray(Settings(namespace="tests"))
    yield
    ray.shutdown()


@pytest.fixture
def ray_namespace(_ray: None) -> str:
    """A Ray namespace that no other test uses."""
    return f"test-{next(_namespaces)}"
