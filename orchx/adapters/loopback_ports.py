"""Ports that nobody listens at, and that nobody is given before they are used."""

from __future__ import annotations

import random
import socket
from typing import Final

FREE_PORTS: Final = range(20_000, 30_000)
"""Between the ports of Ray's workers and of Serve's replicas, and below those that the kernel
gives to outgoing connections: one of those may be taken at any moment."""

TRIES_MAX: Final = 1_000


def free_port(host: str = "127.0.0.1") -> int:
    """Return a port of `host` that nobody listens at just now.

    Raises:
        OSError: none was found, or `host` is no address of this machine.
    """
    failure = OSError("no port was tried")
    for port in random.SystemRandom().sample(FREE_PORTS, TRIES_MAX):
        with socket.socket() as probe:
            try:
                probe.bind((host, port))
            except OSError as error:
                failure = error
                continue
            return port
    raise failure
