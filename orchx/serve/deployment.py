"""Ingestion as a Ray Serve deployment, behind Serve's HAProxy."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from functools import partial
from typing import Any

from fastapi import FastAPI
from ray import serve
from ray.serve.config import HTTPOptions, ProxyLocation
from ray.serve.context import _get_global_client

from orchx.actors.cluster import LAUNCHER_HOST, joins_cluster
from orchx.actors.gateway import open_gateway
from orchx.actors.handles import Handles
from orchx.actors.links import RayMetricsLink
from orchx.actors.logs import configure_logs
from orchx.actors.node_labels import NodeLabels
from orchx.actors.ray_session import process_name
from orchx.adapters.loopback_ports import free_port
from orchx.adapters.webhook_sender import check_callback_url
from orchx.domain.services import check_secrets
from orchx.engine.metrics import ProcessMetrics
from orchx.serve.api_keys import ApiKeys
from orchx.serve.application import build_application
from orchx.serve.http_metrics import HttpMetrics
from orchx.settings import Settings
from orchx.stores import open_stores

APPLICATION = "orchx"
# Far above what the admission control lets in: the queue in front must not be the limit.
MAX_ONGOING_REQUESTS = 10_000
HEALTH_TIMEOUT_S = 10.0
INNER_HOST = "127.0.0.1"  # where HAProxy looks for the replicas of its own machine


class Ingestion:
    """One replica: the HTTP application over a gateway of its own."""

    def __init__(self, settings: Settings) -> None:
        configure_logs(settings.log_level, process_name("ingestion"))
        self._settings = settings
        self._handles = Handles(settings)

    def __serve_build_asgi_app__(self) -> FastAPI:
        """Build the application; Serve calls this inside the replica's event loop."""
        settings = self._settings
        gateway, self._mail = open_gateway(settings, self._handles)
        metrics = ProcessMetrics(process_name("ingestion"))
        self._gateway = gateway
        application = build_application(
            gateway,
            settings.http,
            ApiKeys(open_stores(settings).key_store()),
            check_callback=partial(check_callback_url, settings=settings),
            check_services=partial(check_secrets, allowed=settings.pools.secret_env),
            observe=HttpMetrics(metrics).observe,
        )
        pushing = metrics.push_for_ever(RayMetricsLink(self._handles))
        self._pushing = asyncio.get_running_loop().create_task(pushing)
        return application


def undeploy() -> None:
    """End Serve; where it serves others too, as it may on a cluster, ingestion alone."""
    applications = serve.status().applications
    if applications.keys() <= {APPLICATION}:
        shutdown: Callable[[], None] = serve.shutdown  # untyped in Ray
        shutdown()
    elif APPLICATION in applications:
        serve.delete(APPLICATION)


def start_serve(settings: Settings) -> Settings:
    """Start Serve if need be; returns the settings with where it listens.

    With port 0, a free port is taken: Serve and its HAProxy must both be told the same one.
    """
    host, port = settings.http.host, settings.http.port or free_port(settings.http.host)
    everywhere = settings.cluster.ingress == "every-node"
    serve.start(
        proxy_location=ProxyLocation.EveryNode if everywhere else ProxyLocation.HeadOnly,
        http_options=HTTPOptions(
            host=INNER_HOST if LAUNCHER_HOST in os.environ else host, port=port
        ),
        logging_config={"log_level": "WARNING"},
    )
    if joins_cluster() and (running := _get_global_client()) is not None:
        # since before this start, perhaps: then it stays where it is
        host, port = running.http_config.host, running.http_config.port
    http = settings.http.model_copy(update={"host": host, "port": port})
    return settings.model_copy(update={"http": http})


def deploy(settings: Settings) -> str:
    """(Re)deploy ingestion on Serve as it was started; returns its base URL.

    Raises:
        RuntimeError: the deployment did not become healthy.
    """
    settings = settings.model_copy(update={"data_dir": settings.data_dir.absolute()})
    deployment: Any = serve.deployment(
        num_replicas=settings.http.replicas,
        max_ongoing_requests=MAX_ONGOING_REQUESTS,
        ray_actor_options={
            "num_cpus": 0,
            **NodeLabels(cluster=settings.cluster).for_owner(),
        },
        health_check_period_s=2,
        health_check_timeout_s=HEALTH_TIMEOUT_S,
        graceful_shutdown_timeout_s=5,
        logging_config={"log_level": "WARNING", "enable_access_log": False},
    )(serve.ingress()(Ingestion))
    serve.run(deployment.bind(settings), name=APPLICATION, route_prefix="/")
    return f"http://{settings.http.host}:{settings.http.port}"
