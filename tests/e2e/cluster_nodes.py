"""Several Ray nodes on this machine, in a process of their own that is told what to do.

On standard input, a line of JSON each: `{"add": LABELS}` or `{"remove": ID}` (its processes are
killed); on standard output a line for each: `{"id": ID}`, after `{"id": ID, "address": ADDRESS}`
for the head. It ends when it is killed, with its session.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from ray.cluster_utils import Cluster

LOOPBACK = "127.0.0.2"  # Ray takes 127.0.0.1 for a wish to be reachable
CPUS_PER_NODE = 2
JOIN_TIMEOUT_S = 120
FASTER = {"health_check_period_ms": 1_000, "health_check_failure_threshold": 3}


def main() -> None:
    """Keep the cluster until there is nothing more to do."""
    common: dict[str, Any] = {"num_cpus": CPUS_PER_NODE, "node_ip_address": LOOPBACK}
    cluster = Cluster()
    head = cluster.add_node(include_dashboard=False, _system_config=FASTER, **common)
    nodes = {}
    _tell(id=head.node_id, address=cluster.address)
    for line in sys.stdin:
        wanted = json.loads(line)
        if "add" in wanted:
            node = cluster.add_node(wait=False, labels=wanted["add"], **common)
            cluster.wait_for_nodes(JOIN_TIMEOUT_S)
            nodes[node.node_id] = node
            _tell(id=node.node_id)
        else:
            cluster.remove_node(nodes.pop(wanted["remove"]), allow_graceful=False)
            _tell(id=wanted["remove"])


def _tell(**fields: str) -> None:
    print(json.dumps(fields), flush=True)


if __name__ == "__main__":
    main()
