"""What is struck: servers on their machines, and processes of the engine.

A target is chosen at the moment of the strike: the broker that leads, the MongoDB that is
primary, the process that an actor has just then.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from tests.chaos.clocks import Clock
from tests.chaos.disks import Disk
from tests.chaos.process_cut import ProcessCut
from tests.chaos.ray_nodes import RayNode
from tests.chaos.servers_on_machines import STORES, Member, revive
from tests.chaos.site import ENGINE, Site
from tests.e2e import process_tree
from tests.e2e.conditions import eventually

GIVE_UP_TIMEOUT_S = 60.0


class Target(Protocol):
    """Something that can fail, on a machine."""

    def choose(self) -> None:
        """Settle which processes are meant, now."""

    def pids(self) -> Sequence[int]:
        """Return the processes that were chosen."""

    def revive(self) -> None:
        """Start what has ended, where nobody does so by itself, and wait until it works."""

    def cut(self) -> None:
        """Cut what was chosen off from other machines."""

    def mend(self) -> None:
        """Let it reach them again."""

    def disks(self) -> Sequence[Disk]:
        """Return the disks that it writes to."""

    def clocks(self) -> Sequence[Clock]:
        """Return the clocks that it goes by."""


class Servers:
    """Brokers, MongoDB or Redis: one or several."""

    def __init__(self, site: Site, chosen: Callable[[Site], Sequence[Member]]) -> None:
        self._site = site
        self._chosen = chosen
        self._members: Sequence[Member] = ()

    def choose(self) -> None:
        self._members = self._chosen(self._site)

    def pids(self) -> Sequence[int]:
        return [member.pid for member in self._members]

    def revive(self) -> None:
        revive(self._members)

    def cut(self) -> None:
        for member in self._members:
            member.machine.cut()

    def mend(self) -> None:
        for member in self._members:
            member.machine.mend()

    def disks(self) -> Sequence[Disk]:
        return [self._site.disks[member.machine.name] for member in self._members]

    def clocks(self) -> Sequence[Clock]:
        return [self._site.clocks[member.machine.name] for member in self._members]


class EngineProcess:
    """One process of the engine; Ray, or the engine itself, starts another in its place.

    It is cut off from the stores' machines, while what is beside it on its own still hears it.
    """

    def __init__(self, site: Site, find: Callable[[Site], int]) -> None:
        self._site = site
        self._find = find
        self._pid = 0
        self._cut = ProcessCut(ENGINE, STORES)

    def choose(self) -> None:
        self._pid = self._find(self._site)

    def pids(self) -> Sequence[int]:
        return [self._pid]

    def revive(self) -> None:
        """Leave that to the engine."""

    def cut(self) -> None:
        self._cut.cut(self.pids())

    def mend(self) -> None:
        self._cut.mend()

    def disks(self) -> Sequence[Disk]:
        return ()

    def clocks(self) -> Sequence[Clock]:
        return ()


class EngineMachine:
    """All of the engine; whoever keeps services running starts `orchx up` again when it ends."""

    def __init__(self, site: Site, find: Callable[[Site], Sequence[int]]) -> None:
        self._site = site
        self._find = find
        self._pids: Sequence[int] = ()

    def choose(self) -> None:
        self._pids = self._find(self._site)

    def pids(self) -> Sequence[int]:
        return self._pids

    def revive(self) -> None:
        """Start the engine again once the process that was started has ended.

        Raises:
            AssertionError: it has lost its Ray, and stays.
        """
        if all(map(process_tree.is_alive, self._pids)) and self._site.engine_lives():
            return
        eventually(
            lambda: not self._site.engine_lives(),
            "the end of an `orchx up` that has lost a part",
            timeout_s=GIVE_UP_TIMEOUT_S,
        )
        self._site.engine.kill()
        self._site.engine.start()

    def cut(self) -> None:
        ENGINE.cut()

    def mend(self) -> None:
        ENGINE.mend()

    def disks(self) -> Sequence[Disk]:
        return [self._site.disks[ENGINE.name]]

    def clocks(self) -> Sequence[Clock]:
        return [self._site.clocks[ENGINE.name]]


class ClusterNode:
    """A node of a Ray cluster with all that runs on its machine."""

    def __init__(self, site: Site, find: Callable[[Site], RayNode]) -> None:
        self._site = site
        self._find = find
        self._node: RayNode | None = None
        self._pids: Sequence[int] = ()

    def choose(self) -> None:
        self._node = self._find(self._site)
        self._pids = self._node.pids()

    def pids(self) -> Sequence[int]:
        return self._pids

    def revive(self) -> None:
        """Start the node again if it has ended, and the whole cluster if that was its head.

        Raises:
            AssertionError: it does not start, or `orchx up` stays without a cluster.
        """
        if not self._chosen.lives():
            self._chosen.kill()
            if self._chosen is self._site.nodes[0]:
                self._revive_cluster()
            else:
                self._chosen.start()

    def cut(self) -> None:
        self._chosen.machine.cut()

    def mend(self) -> None:
        self._chosen.machine.mend()

    def disks(self) -> Sequence[Disk]:
        return ()

    def clocks(self) -> Sequence[Clock]:
        return ()

    @property
    def _chosen(self) -> RayNode:
        assert self._node is not None
        return self._node

    def _revive_cluster(self) -> None:
        eventually(
            lambda: not self._site.engine_lives(),
            "the end of an `orchx up` that has lost its cluster",
            timeout_s=GIVE_UP_TIMEOUT_S,
        )
        self._site.engine.kill()
        for node in self._site.nodes:
            node.kill()
        for node in self._site.nodes:
            node.start()
        self._site.engine.start()


def actor(name: str) -> Callable[[Site], Target]:
    """Return a target: the process of an actor."""
    return lambda site: EngineProcess(site, lambda site: site.engine.actor_pid(name))


def replica(site: Site) -> Target:
    """Return the target: the process that takes requests."""
    return EngineProcess(site, lambda site: site.engine.pids_titled("ray::ServeReplica:orchx")[0])


def leading_broker(site: Site) -> Target:
    """Return the target: of the three brokers, the one that leads most."""
    return Servers(site, lambda site: [site.leading_broker()])


def first_broker(site: Site) -> Target:
    """Return the target: the broker that has a disk and a clock of its own."""
    return Servers(site, lambda site: site.brokers[:1])


def all_brokers(site: Site) -> Target:
    """Return the target: all three."""
    return Servers(site, lambda site: site.brokers)


def redis(site: Site) -> Target:
    """Return the target: the cache."""
    return Servers(site, lambda site: [site.redis])


def primary(site: Site) -> Target:
    """Return the target: the MongoDB that is written to."""
    return Servers(site, lambda site: [site.primary()])


def engine(site: Site) -> Target:
    """Return the target: the engine's machine with all that runs on it."""
    return EngineMachine(site, lambda site: list(process_tree.session_members(site.engine.session)))


def gcs(site: Site) -> Target:
    """Return the target: what keeps a Ray cluster together, on the engine's own machine."""
    return EngineMachine(site, lambda site: site.engine.pids_titled("gcs_server")[:1])


def raylet(site: Site) -> Target:
    """Return the target: what keeps a Ray node's workers, on the engine's own machine."""
    return EngineMachine(site, lambda site: site.engine.pids_titled("raylet/raylet")[:1])


def ray_head(site: Site) -> Target:
    """Return the target: the head of a Ray cluster, where `orchx up` and the ingress are too."""
    return ClusterNode(site, lambda site: site.nodes[0])


def node_of(actor_class: str) -> Callable[[Site], Target]:
    """Return a target: the Ray node where an actor of this class runs."""

    def find(site: Site) -> RayNode:
        title = f"ray::{actor_class}"
        for node in site.nodes:
            if any(title in process_tree.title(pid) for pid in node.pids()):
                return node
        raise AssertionError(f"no node has a {actor_class}")

    return lambda site: ClusterNode(site, find)
