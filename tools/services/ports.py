"""Which ports of the loopback address the servers listen at."""

from __future__ import annotations

import random
import socket
from contextlib import ExitStack
from dataclasses import dataclass

from orchx.adapters.loopback_ports import FREE_PORTS as FREE_PORTS

HOST = "127.0.0.1"
MAX_TRIES = 1_000
_CONNECT_TIMEOUT_S = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Ports:
    """One port for each server, and one more for Kafka's controller."""

    kafka: int
    kafka_controller: int
    redis: int
    mongodb: int


# Each is the server's usual one with a 1 before it: one that is installed is not disturbed.
DEVELOPMENT = Ports(kafka=19092, kafka_controller=19093, redis=16379, mongodb=17017)


def free_ports() -> Ports:
    """Choose four ports that nobody listens at.

    Raises:
        OSError: no four were found.
    """
    found: list[int] = []
    with ExitStack() as stack:
        # Held until all four are found, so that they differ.
        for port in random.SystemRandom().sample(FREE_PORTS, MAX_TRIES):
            holder = stack.enter_context(socket.socket())
            try:
                holder.bind((HOST, port))
            except OSError:
                continue
            found.append(port)
            if len(found) == 4:
                kafka, kafka_controller, redis, mongodb = found
                return Ports(
                    kafka=kafka, kafka_controller=kafka_controller, redis=redis, mongodb=mongodb
                )
    raise OSError(f"no free ports between {FREE_PORTS.start} and {FREE_PORTS.stop - 1}")


def is_listening(port: int, host: str = HOST) -> bool:
    """Tell whether somebody accepts connections at the port."""
    with socket.socket() as connection:
        connection.settimeout(_CONNECT_TIMEOUT_S)
        return connection.connect_ex((host, port)) == 0
