"""A whole orchx: Ray, or a cluster of it, the engine, ingestion. Started and stopped as one."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import ray

from orchx.actors import cluster
from orchx.actors.node_labels import Node
from orchx.actors.ray_session import logs_folder, raylet_socket
from orchx.adapters.definition_source import read_definition
from orchx.adapters.service_source import read_services
from orchx.domain.document_parser import canonical_json
from orchx.domain.services import check_secrets
from orchx.errors import CallerError, InvalidRequest
from orchx.ports.catalog import StoredDefinition
from orchx.serve.api_keys import create_first_key
from orchx.serve.authentication import check_authentication_setting
from orchx.serve.deployment import deploy, start_serve, undeploy
from orchx.settings import Settings
from orchx.stores import open_stores, prepare_stores


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """A server that answers.

    It took `started_s`, of which Ray was up after `ray_s`. `pids` are the actors' processes,
    `nodes` those that they are on; `admin_key` is there when this start made the first key of the
    installation; `logs` is where the log lines of this machine's processes are, in
    `worker-*.err`.
    """

    url: str
    logs: Path
    raylet: Path
    pids: Mapping[str, str]
    nodes: Mapping[str, Node]
    admin_key: str | None
    started_s: float
    ray_s: float


def start_server(settings: Settings) -> Running:
    """Start everything and return once all of it runs; requests are taken a little earlier.

    Raises:
        CallerError: a definition or service file is wrong, or a setting; or the cluster lacks
            the nodes that the settings ask for.
        Unavailable: a part did not become ready in time.
        DriverError, StorageFull: a store cannot be used.
    """
    begun_s = time.monotonic()
    check_authentication_setting(settings.http)
    settings = asyncio.run(prepare_stores(settings))
    asyncio.run(publish_files(settings))
    cluster.start_ray(settings)
    ray_s = time.monotonic() - begun_s
    settings = cluster.settle(settings)
    actors = cluster.create_engine(settings)
    if cluster.joins_cluster():  # they stay, whatever becomes of this process: none may be missing
        cluster.create_rest(settings)
    settings = start_serve(settings)  # its processes start beside the engine's
    pids = cluster.await_engine(actors)
    url = deploy(settings)
    # Not before: the first request would be taken later, as each process costs CPU to start.
    pids = {**pids, **cluster.await_engine(cluster.create_rest(settings))}
    # It is told once: not before everything else has worked.
    admin_key = asyncio.run(_first_key(settings))
    return Running(
        url=url,
        logs=logs_folder(),
        raylet=raylet_socket(),
        pids=pids,
        nodes=cluster.nodes_of(settings),
        admin_key=admin_key,
        started_s=time.monotonic() - begun_s,
        ray_s=ray_s,
    )


def stop_server(settings: Settings) -> Sequence[str]:
    """Stop taking requests, then the engine, then Ray. What runs goes on at the next start.

    One engine of several hands over first, and gives balancers time to send no more here. A
    cluster that was joined is left, with whatever else runs on it.

    Returns:
        the names of the actors that were stopped.
    """
    if settings.profile == "kafka":
        cluster.leave_others(settings)
        time.sleep(settings.http.drain_s)
    undeploy()
    stopped = cluster.stop_engine(settings)
    ray.shutdown()
    return stopped


async def publish_files(settings: Settings) -> None:
    """Load the services and publish the definitions that the settings name.

    A file's definition is bound to requests of the type that its name is.

    Raises:
        CallerError: a file is wrong; it is named in the message.
    """
    if not settings.services and not settings.definitions:
        return
    catalog = open_stores(settings).catalog()
    try:
        for path in settings.services:
            with _named(path):
                services = read_services(path.read_text(encoding="utf-8"))
                check_secrets(services, settings.pools.secret_env)
                await catalog.put_services(services)
        for path in _files(settings.definitions):
            with _named(path):
                await catalog.publish(_stored(path.read_text(encoding="utf-8")))
    finally:
        await catalog.close()


def _files(paths: tuple[Path, ...]) -> list[Path]:
    files: list[Path] = []
    for path in paths:
        if path.is_dir():
            files += sorted(p for p in path.iterdir() if p.suffix in (".yaml", ".yml", ".json"))
        else:
            files.append(path)
    return files


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Tell what is wrong in a file, or with publishing it, with its name."""
    try:
        yield
    except CallerError as error:
        raise type(error)(f"{path}: {error.detail}", error.violations) from error
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidRequest(f"{path}: {error}") from error


def _stored(text: str) -> StoredDefinition:
    definition = read_definition(text)
    return StoredDefinition(
        namespace=definition.namespace,
        name=definition.name,
        version=definition.version,
        digest=definition.digest,
        source=canonical_json(definition.source),
        text=text,
        created_at_ms=time.time_ns() // 1_000_000,
        request_type=definition.name,
    )


async def _first_key(settings: Settings) -> str | None:
    """Make an admin key if there is no key at all and one will be needed."""
    if settings.http.authentication == "off":
        return None
    store = open_stores(settings).key_store()
    try:
        return await create_first_key(store, now_ms=time.time_ns() // 1_000_000)
    finally:
        await store.close()
