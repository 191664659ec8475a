"""Ray's present session as one process sees it: folders, nodes, names."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import ray

NODE_ID_CHARS: Final = 8  # of 56: enough to tell nodes apart


def logs_folder() -> Path:
    """Return the folder into which this machine's processes write.

    The log lines of an actor are in its `worker-….err`, whose name ends with the process id.
    Only for a process that is connected to Ray.
    """
    context = ray.get_runtime_context()
    return Path(context.get_temp_dir()) / context.get_session_name() / "logs"


def nodes() -> list[dict[str, Any]]:
    """Return what Ray knows of each node of the cluster, those that have gone included."""
    told: Callable[[], list[dict[str, Any]]] = ray.nodes  # untyped in Ray
    return told()


def node_id() -> str:
    """Return the id of the node that this process belongs to; "" without Ray."""
    return ray.get_runtime_context().get_node_id() if ray.is_initialized() else ""


def raylet_socket() -> Path:
    """Return the socket at which this machine's raylet listens. Only for who is connected."""
    return Path(ray.get_runtime_context().worker.node.raylet_socket_name)


def process_name(kind: str) -> str:
    """Return a name that no other process of its kind has now, for metrics.

    On a cluster with the node's id: two nodes may have processes of one number.
    """
    several = ray.is_initialized() and len(nodes()) > 1
    return (
        f"{kind}-{node_id()[:NODE_ID_CHARS]}-{os.getpid()}" if several else f"{kind}-{os.getpid()}"
    )
