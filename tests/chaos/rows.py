"""The rows of the table: what is struck, how, for how long, and what has to hold beside the truth.

Lost, doubled and stuck are nought in every row. The limits say what a client may notice.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tests.chaos import targets
from tests.chaos.faults import (
    SKEW_S,
    Cut,
    Fault,
    FullDisk,
    Kill,
    Nothing,
    SkewedClock,
    SlowDisk,
    Stop,
)
from tests.chaos.site import Extra, Site
from tests.chaos.targets import Target


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One fault of one target.

    Args:
        hold: whether the fault lasts; what is started again by itself needs no healing.
        refusal_s: the longest that a request may be refused for, beyond the fault's own length.
        recover_s: the longest from healing until the backlog is gone.
    """

    target_name: str
    target: Callable[[Site], Target]
    fault: Fault
    extra: Extra = "none"
    hold: bool = True
    refusal_s: float = 30.0
    recover_s: float = 60.0

    @property
    def name(self) -> str:
        """What it is called on the command line and in the table."""
        return f"{self.target_name}: {self.fault.name}"


_SERVERS: Sequence[tuple[str, Callable[[Site], Target]]] = (
    ("broker, one of three", targets.leading_broker),
    ("broker, all", targets.all_brokers),
    ("Redis", targets.redis),
    ("MongoDB primary", targets.primary),
)
_PROCESSES: Sequence[tuple[str, Callable[[Site], Target]]] = (
    ("Dispatcher", targets.actor("dispatcher")),
    ("WorkflowActor", targets.actor("owner-shared-0")),
    ("pool worker", targets.actor("pool-0")),
    ("projector", targets.actor("projector")),
    ("ingestion replica", targets.replica),
)

ROWS: Sequence[Row] = (
    Row(target_name="nobody", target=targets.engine, fault=Nothing()),
    *(
        Row(target_name=name, target=target, fault=fault)
        for name, target in (*_SERVERS, ("engine's machine", targets.engine))
        for fault in (Kill(), Stop(), Cut())
    ),
    *(
        Row(target_name=name, target=target, fault=fault, hold=not isinstance(fault, Kill))
        for name, target in _PROCESSES
        for fault in (Kill(), Stop(), Cut())
    ),
    *(
        Row(target_name=name, target=target, fault=fault)
        for name, target in (
            ("a lone engine's GCS", targets.gcs),
            ("a lone engine's raylet", targets.raylet),
        )
        for fault in (Kill(), Stop())
    ),
    *(
        Row(target_name=name, target=target, fault=fault, extra="disks")
        for name, target in (
            ("broker, one of three", targets.first_broker),
            ("MongoDB primary", targets.primary),
            ("engine's machine", targets.engine),
        )
        for fault in (FullDisk(), SlowDisk())
    ),
    *(
        Row(target_name=name, target=target, fault=SkewedClock(ahead_s), extra="clocks")
        for name, target in (
            ("broker, one of three", targets.first_broker),
            ("MongoDB primary", targets.primary),
            ("engine's machine", targets.engine),
        )
        for ahead_s in (SKEW_S, -SKEW_S)
    ),
    *(
        Row(target_name=name, target=target, fault=fault, extra="nodes")
        for name, target in (
            ("Ray node of the Dispatcher", targets.node_of("DispatcherActor")),
            ("Ray node of a pool", targets.node_of("PoolActor")),
            ("Ray head", targets.ray_head),
        )
        for fault in (Kill(), Stop(), Cut())
    ),
)
