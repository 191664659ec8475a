"""What all tests share: one seed, shown whenever a test that drew from it fails."""

import secrets
import socket
from collections.abc import Iterator

import pytest
from hypothesis import settings

DEFAULT_SEED = "1"

# Two busy cores make any deadline a lottery; pytest-timeout still ends what hangs.
settings.register_profile("orchx", deadline=None, print_blob=True)
settings.load_profile("orchx")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--seed",
        default=DEFAULT_SEED,
        help=f"seed of tests that draw at random: a number, or 'random' (default {DEFAULT_SEED})",
    )


@pytest.fixture
def seed(request: pytest.FixtureRequest) -> int:
    """The seed from `--seed`; a failing test's report says how to run it again."""
    option = str(request.config.getoption("--seed"))
    value = secrets.randbits(32) if option == "random" else int(option)
    request.node.add_report_section("setup", "seed", f"run again with --seed={value}")
    return value


@pytest.fixture
def mute() -> Iterator[str]:
    """The address of a server that takes connections and says nothing.

    (kafka-python leaves sockets of refused connections open for the garbage collector.)
    """
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"127.0.0.1:{server.getsockname()[1]}"
