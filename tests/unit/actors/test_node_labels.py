"""Where processes belong: wishes by labels, and a cluster that lacks what is asked for."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError
from ray._private.label_utils import validate_fallback_strategy, validate_label_selector

from orchx.actors.node_labels import Node, NodeLabels, await_nodes, with_pools
from orchx.errors import InvalidRequest
from orchx.settings import ClusterSettings, PoolSettings, Settings

STABLE, SPOT = {"tier": "stable"}, {"tier": "spot"}
NODE_ID = "ray.io/node-id"


def node(id_: str, **labels: str) -> Node:
    return Node(id=id_, address=f"10.0.0.{ord(id_)}", labels={**labels, NODE_ID: id_})


NODES = [node("d"), node("c", **SPOT), node("b", **SPOT), node("a", **STABLE)]


def labels(**cluster: Any) -> NodeLabels:
    return NodeLabels(cluster=ClusterSettings(**cluster), nodes=NODES)


def wishes(options: dict[str, Any]) -> list[dict[str, str]]:
    """Return the selectors in their order; Ray must take them."""
    assert options.keys() <= {"label_selector", "fallback_strategy"}
    fallback = options.get("fallback_strategy", [])
    assert validate_label_selector(options["label_selector"]) is None
    assert validate_fallback_strategy(fallback or None) is None
    return [options["label_selector"], *(each["label_selector"] for each in fallback)]


def test_without_labels_ray_is_told_nothing() -> None:
    assert labels().for_owner(3) == labels().for_pool(3) == labels().for_pool() == {}


def test_owners_stay_off_the_nodes_of_pools_whatever_happens() -> None:
    both = labels(owner_labels=STABLE, pool_labels=SPOT)
    assert wishes(both.for_owner()) == [STABLE, {"tier": "!spot"}]
    assert wishes(labels(pool_labels=SPOT).for_owner()) == [{"tier": "!spot"}]
    assert wishes(labels(owner_labels=STABLE).for_owner()) == [STABLE, {}]
    two = labels(pool_labels={"tier": "spot", "zone": "z"}).for_owner()
    assert wishes(two) == [{"tier": "!spot"}, {"zone": "!z"}]


def test_pools_are_spread_over_their_nodes_and_run_elsewhere_when_those_go() -> None:
    both = labels(owner_labels=STABLE, pool_labels=SPOT)
    first = [wishes(both.for_pool(number))[0] for number in range(3)]
    assert [wish[NODE_ID] for wish in first] == ["b", "c", "b"]
    assert wishes(both.for_pool(0)) == [{**SPOT, NODE_ID: "b"}, SPOT, {}]
    assert wishes(both.for_pool()) == [SPOT, {}]


def test_without_fallback_processes_wait_for_their_nodes() -> None:
    strict = labels(owner_labels=STABLE, pool_labels=SPOT, fallback=False)
    assert wishes(strict.for_owner()) == [STABLE]
    assert wishes(strict.for_pool(1)) == [{**SPOT, NODE_ID: "c"}, SPOT]
    assert wishes(labels(pool_labels=SPOT, fallback=False).for_owner()) == [{"tier": "!spot"}]


class Arrivals:
    """A cluster to which a node comes with each look, and time that passes between them."""

    def __init__(self, *nodes: Node) -> None:
        self.nodes, self.looks, self.now_s = nodes, 0, 0.0

    def look(self) -> list[Node]:
        self.looks += 1
        return list(self.nodes[: self.looks])

    def sleep(self, seconds: float) -> None:
        self.now_s += seconds

    def awaited(self, **cluster: Any) -> int:
        settings = Settings(profile="kafka", cluster=ClusterSettings(**cluster))
        found = await_nodes(
            settings, look=self.look, monotonic=lambda: self.now_s, sleep=self.sleep
        )
        return len(found)


def test_nodes_that_are_on_their_way_are_awaited() -> None:
    assert Arrivals(*NODES).awaited(owner_labels=STABLE, pool_labels=SPOT, pool_nodes=2) == 4
    assert Arrivals(*NODES).awaited(pool_labels=SPOT) == 2
    assert Arrivals(*NODES).awaited() == 1


def test_nodes_that_do_not_come_are_told_with_those_that_are_there() -> None:
    arrivals = Arrivals(NODES[0], NODES[1])
    with pytest.raises(InvalidRequest) as told:
        arrivals.awaited(owner_labels=STABLE, pool_labels=SPOT, pool_nodes=2, wait_s=5)
    assert arrivals.now_s == pytest.approx(5)
    text = str(told.value)
    assert "0 of 1 nodes have tier=stable as ORCHX_CLUSTER__OWNER_LABELS asks for" in text
    assert "1 of 2 nodes have tier=spot as ORCHX_CLUSTER__POOL_LABELS asks for" in text
    assert "10.0.0.100: no labels; 10.0.0.99: tier=spot" in text


def test_files_of_one_machine_are_not_for_a_cluster() -> None:
    with pytest.raises(InvalidRequest, match="ORCHX_PROFILE=kafka"):
        await_nodes(Settings(), look=lambda: NODES)
    assert await_nodes(Settings(), look=lambda: NODES[:1]) == NODES[:1]


@pytest.mark.parametrize(("declared", "count", "pools"), [(3, 2, 3), (0, 2, 2), (0, 0, 1)])
def test_pools_are_as_many_as_declared_or_as_their_nodes(
    declared: int, count: int, pools: int
) -> None:
    settings = Settings(pools=PoolSettings(io_actors=declared))
    assert with_pools(settings, count).pools.io_actors == pools


@pytest.mark.parametrize("label", [{"a b": "c"}, {"a": "!b"}, {"a": ""}, {"-a": "b"}, {"a": "b,c"}])
def test_what_can_be_no_label_is_refused(label: dict[str, str]) -> None:
    with pytest.raises(ValidationError):
        ClusterSettings(owner_labels=label)
