"""Where on a Ray cluster each process belongs, by the labels of its nodes (ADR 0021).

Without labels in the settings, as on one machine, Ray places everything as it likes. With them,
a process has a list of wishes, and the first that some node fulfils counts: at its start, and
again whenever Ray starts it anew.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from orchx.actors.ray_session import nodes
from orchx.errors import InvalidRequest
from orchx.settings import ClusterSettings, Settings

NODE_ID: Final = "ray.io/node-id"  # a label that Ray gives to each node
POLL_S: Final = 0.5
NODES_TOLD_MAX: Final = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """A living node of the cluster."""

    id: str
    address: str
    labels: Mapping[str, str]

    def has(self, labels: Mapping[str, str]) -> bool:
        """Tell whether the node has all of these labels."""
        return labels.items() <= self.labels.items()


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeLabels:
    """Ray's options for the processes of a cluster; `nodes` are those known at the start."""

    cluster: ClusterSettings
    nodes: Sequence[Node] = ()

    def for_owner(self, number: int = 0) -> dict[str, Any]:
        """Return the options of the `number`th process of those that stay: owners and the like.

        They are spread over the nodes with the owners' labels, and never run on the pools'.
        """
        wishes = self._wishes(self.cluster.owner_labels, number)
        # not (a and b) is: not a, or not b
        not_pools = [{key: f"!{value}"} for key, value in self.cluster.pool_labels.items()]
        if not wishes or self.cluster.fallback:
            wishes += not_pools or [{}]
        return _options(wishes)

    def for_pool(self, number: int | None = None) -> dict[str, Any]:
        """Return the options of the `number`th pool; without a number, of a pool's task."""
        wishes = self._wishes(self.cluster.pool_labels, number)
        if not wishes or self.cluster.fallback:
            wishes.append({})
        return _options(wishes)

    def _wishes(self, labels: Mapping[str, str], number: int | None) -> list[dict[str, str]]:
        """Return the wish for one of the nodes with these labels, in turn, and for any of them."""
        if not labels:
            return []
        having = sorted(node.id for node in self.nodes if node.has(labels))
        if number is None or len(having) < 2:
            return [dict(labels)]
        return [{**labels, NODE_ID: having[number % len(having)]}, dict(labels)]


def _options(wishes: Sequence[dict[str, str]]) -> dict[str, Any]:
    first, *others = wishes
    if not first:  # anywhere: as Ray does without options
        return {}
    fallback = [{"label_selector": wish} for wish in others]
    return {"label_selector": first, **({"fallback_strategy": fallback} if fallback else {})}


def living_nodes() -> list[Node]:
    """Return the nodes of the cluster that this process has joined."""
    return [
        Node(id=node["NodeID"], address=node["NodeManagerAddress"], labels=node["Labels"])
        for node in nodes()
        if node["Alive"]
    ]


def await_nodes(
    settings: Settings,
    *,
    look: Callable[[], Sequence[Node]] = living_nodes,
    monotonic: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Sequence[Node]:
    """Wait until the cluster has the nodes that the settings ask for, and return all of them.

    Raises:
        InvalidRequest: it has not within `cluster.wait_s`, or the settings are for one machine.
    """
    deadline_s = monotonic() + settings.cluster.wait_s
    while True:
        nodes = look()
        if settings.profile == "embedded" and len(nodes) > 1:
            raise InvalidRequest(
                "the profile embedded keeps its files on one machine, and the cluster that"
                f" RAY_ADDRESS names has {len(nodes)} nodes: set ORCHX_PROFILE=kafka"
            )
        missing = _missing(settings.cluster, nodes)
        if not missing:
            return nodes
        if monotonic() >= deadline_s:
            there = "; ".join(f"{n.address}: {_told(n.labels)}" for n in nodes[:NODES_TOLD_MAX])
            raise InvalidRequest(
                f"after {settings.cluster.wait_s:g} s, {missing} (there are {there}):"
                " start nodes with `ray start --labels`, or change the setting"
            )
        sleep(POLL_S)


def _missing(cluster: ClusterSettings, nodes: Sequence[Node]) -> str:
    """Return what the cluster lacks, in words; nothing if it has everything."""
    wanted = (
        (cluster.owner_labels, cluster.owner_nodes, "ORCHX_CLUSTER__OWNER_LABELS"),
        (cluster.pool_labels, cluster.pool_nodes, "ORCHX_CLUSTER__POOL_LABELS"),
    )
    return " and ".join(
        f"{found} of {count} nodes have {_told(labels)} as {setting} asks for"
        for labels, count, setting in wanted
        if labels and (found := sum(node.has(labels) for node in nodes)) < count
    )


def _told(labels: Mapping[str, str]) -> str:
    own = {key: value for key, value in labels.items() if not key.startswith("ray.io/")}
    return ",".join(f"{key}={value}" for key, value in sorted(own.items())) or "no labels"


def with_pools(settings: Settings, count: int) -> Settings:
    """Return the settings with a number of pools: theirs, or where it is 0, `count` (or one)."""
    if settings.pools.io_actors:
        return settings
    pools = settings.pools.model_copy(update={"io_actors": max(1, count)})
    return settings.model_copy(update={"pools": pools})
