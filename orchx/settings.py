"""Every setting, in one frozen tree, read once by whoever starts the process.

Environment variables are `ORCHX_` plus the path with double underscores
(`ORCHX_OWNERS__DEDICATED=16`). Nothing here reads the environment at import: call
`Settings()`. Only these values cross processes; clients are built where they are used.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self, TypeAlias

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    StringConstraints,
    model_validator,
)
from pydantic_settings import BaseSettings, SettingsConfigDict

_KAFKA = "ORCHX_KAFKA__"


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class HttpSettings(_Section):
    """The ingestion endpoint."""

    host: str = "127.0.0.1"
    port: int = Field(8600, ge=0, le=65535, description="0 takes a free port")
    replicas: int = Field(1, ge=1, le=64)
    max_body_bytes: int = Field(1_048_576, ge=1024)
    max_depth: int = Field(64, ge=4, le=190, description="nesting of a JSON body")
    max_batch: int = Field(1000, ge=1)
    max_writes: int = Field(
        500,
        ge=1,
        description="requests other than GET that a process works on at once; more are told to"
        " try later. Those that wait for a workflow's end do not count",
    )
    max_wait_s: float = Field(60.0, gt=0)
    drain_s: float = Field(
        2.0,
        ge=0,
        le=60,
        description="with profile `kafka`: how long a stopped engine takes requests on while"
        " /readyz says no",
    )
    authentication: Literal["required", "off"] = Field(
        "required", description="`off` is refused on any host but loopback"
    )


class AdmissionSettings(_Section):
    """How much may wait before requests are turned away."""

    backlog_limit: int = Field(20_000, ge=1)
    tenant_share: float = Field(0.5, gt=0, le=1, description="of the backlog, per tenant")
    running_limit: int = Field(2_000, ge=1, description="workflows running at once")
    memory_bytes: int = Field(
        268_435_456,
        ge=1_048_576,
        description="of requests that the Dispatcher keeps in memory (the rest waits on the disk),"
        " and that running workflows may have been started with",
    )


class OwnerSettings(_Section):
    """WorkflowActors."""

    shared: int = Field(1, ge=1, description="actors that multiplex workflows")
    shared_capacity: int = Field(2_000, ge=1, description="live workflows per shared actor")
    dedicated: int = Field(2, ge=0, description="warm actors that take one workflow at a time")
    auto_dedicated: int = Field(
        1, ge=0, description="warm actors that workflows of `auto` isolation may hold at once"
    )
    lease_ms: int = Field(10_000, ge=500, description="without the dispatcher, effects stop")
    passivate_after_ms: int = Field(1_000, ge=0)


class PoolSettings(_Section):
    """Task pools."""

    io_actors: int = Field(1, ge=0, description="0: one for each node that they may run on")
    io_concurrency: int = Field(256, ge=1, description="calls open at once per io actor")
    cpu_workers: int = Field(2, ge=1, description="Ray tasks at once for cpu functions")
    queue_limit: int = Field(20_000, ge=1)
    default_timeout_ms: int = Field(30_000, ge=1)
    max_response_bytes: int = Field(
        1_048_576, ge=1024, le=2_097_152, description="of a service's answer; no value is larger"
    )
    recent_results: int = Field(10_000, ge=0, description="kept by key, to join repeats")
    allow_private_addresses: bool = Field(
        True, description="whether documents may call loopback and private addresses"
    )
    secret_env: tuple[str, ...] = Field(
        ("ORCHX_SECRET_*",),
        description="shell patterns of the environment variables that a service's bearerEnv "
        "may name",
    )


class EvaluatorSettings(_Section):
    """Limits on expressions that are not provably cheap."""

    processes: int = Field(2, ge=1)
    wall_ms: int = Field(500, ge=1)
    memory_bytes: int = Field(268_435_456, ge=33_554_432)
    output_bytes: int = Field(1_048_576, ge=1024, le=2_097_152)


class WebhookSettings(_Section):
    """Reporting back."""

    allowed_hosts: tuple[str, ...] = Field(
        (), description="host, host:port or *.domain that callbacks may name, private ones too"
    )
    secret: SecretStr | None = Field(
        None,
        description="the master, whsec_…, from which each tenant's is derived; made and kept in "
        "the data folder, or in MongoDB, if absent",
    )
    timeout_ms: int = Field(10_000, ge=100)
    give_up_after_s: float = Field(86_400.0, gt=0)
    first_delay_ms: int = Field(1_000, ge=1)
    concurrency: int = Field(32, ge=1)
    collect_interval_ms: int = Field(
        200, ge=1, description="between looks at the log for what is to be reported"
    )


class RetentionSettings(_Section):
    """How long what is over is kept, beside the log, which keeps everything."""

    commands_days: float = Field(
        7.0, ge=1, description="of requests and events: so long a repeated key is recognised"
    )
    deliveries_days: float = Field(7.0, ge=1, description="of webhooks that were delivered")
    undelivered_days: float = Field(
        30.0, ge=1, description="of webhooks that were given up: so long they can be replayed"
    )


class SweepSettings(_Section):
    """How often parts compare what they know."""

    interval_ms: int = Field(1_000, ge=10)
    projector_interval_ms: int = Field(50, ge=1)
    health_timeout_ms: int = Field(3_000, ge=100)
    patience_ms: int = Field(
        12_000, ge=100, description="how long a process may be silent before it is restarted"
    )
    start_patience_ms: int = Field(
        120_000, ge=1_000, description="the same for one that has not answered yet"
    )


# Of Kubernetes, and so of Ray: https://kubernetes.io/docs/concepts/overview/working-with-objects/labels
_LABEL = r"[a-zA-Z0-9]([a-zA-Z0-9_.-]{0,61}[a-zA-Z0-9])?"
LabelKey: TypeAlias = Annotated[str, StringConstraints(pattern=rf"^([a-z0-9.-]+/)?{_LABEL}$")]
LabelValue: TypeAlias = Annotated[str, StringConstraints(pattern=f"^{_LABEL}$")]


class ClusterSettings(_Section):
    """Where on a Ray cluster what runs; labels are those of `ray start --labels`."""

    owner_labels: dict[LabelKey, LabelValue] = Field(
        {}, description="of nodes that stay: owners, Dispatcher, projector, reporter, ingestion"
    )
    pool_labels: dict[LabelKey, LabelValue] = Field(
        {}, description="of nodes that may go at any time: task pools, and nothing else"
    )
    owner_nodes: int = Field(1, ge=1, description="with the owners' labels that a start waits for")
    pool_nodes: int = Field(1, ge=1, description="with the pools' labels that a start waits for")
    wait_s: float = Field(120.0, ge=0, description="for those nodes")
    fallback: bool = Field(
        True, description="whether processes whose nodes have all gone may run on others"
    )
    ingress: Literal["every-node", "head"] = Field(
        "every-node",
        description="where HTTP is taken: on every node with an ingestion process, and the head",
    )


class KafkaSettings(_Section):
    """The event log and the command queue of the profile `kafka`."""

    bootstrap_servers: tuple[str, ...] = Field(
        ("127.0.0.1:9092",), min_length=1, description="host:port of some brokers"
    )
    topic_prefix: str = Field("orchx", pattern=r"^[a-zA-Z0-9._-]{1,100}$")
    partitions: int = Field(6, ge=1, le=4_096, description="of topics that are made at start")
    replication_factor: int = Field(1, ge=1, description="of topics that are made at start")
    min_insync_replicas: int = Field(1, ge=1, description="that have a record before it counts")
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = "SCRAM-SHA-512"
    sasl_username: str | None = None
    sasl_password: SecretStr | None = None
    ssl_cafile: Path | None = Field(None, description="PEM; the system's own if absent")
    request_timeout_ms: int = Field(15_000, ge=1_000)
    session_timeout_ms: int = Field(
        10_000, ge=6_000, description="how long an engine may be silent before others take over"
    )
    in_flight_bytes: int = Field(67_108_864, ge=1_048_576, description="sent, not yet durable")
    window_bytes: int = Field(
        268_435_456, ge=1_048_576, description="of the log's end that a process keeps in memory"
    )

    @model_validator(mode="after")
    def _agree(self) -> Self:
        """Refuse settings that contradict each other, with the names of both."""
        if self.min_insync_replicas > self.replication_factor:
            raise ValueError(
                f"{_KAFKA}MIN_INSYNC_REPLICAS ({self.min_insync_replicas}) is more than "
                f"{_KAFKA}REPLICATION_FACTOR ({self.replication_factor}): nothing would ever count"
            )
        has_login = self.sasl_username is not None and self.sasl_password is not None
        if self.security_protocol.startswith("SASL") and not has_login:
            raise ValueError(
                f"{_KAFKA}SECURITY_PROTOCOL is {self.security_protocol}, which needs "
                f"{_KAFKA}SASL_USERNAME and {_KAFKA}SASL_PASSWORD"
            )
        named = self.model_fields_set & {"sasl_mechanism", "sasl_username", "sasl_password"}
        if named and not self.security_protocol.startswith("SASL"):
            raise ValueError(
                f"{', '.join(sorted(_KAFKA + one.upper() for one in named))} would not be used: "
                f"{_KAFKA}SECURITY_PROTOCOL is {self.security_protocol}, and would have to be "
                "SASL_PLAINTEXT or SASL_SSL"
            )
        if self.ssl_cafile is not None and not self.security_protocol.endswith("SSL"):
            raise ValueError(
                f"{_KAFKA}SSL_CAFILE would not be used: {_KAFKA}SECURITY_PROTOCOL is "
                f"{self.security_protocol}, and would have to be SSL or SASL_SSL"
            )
        return self


class RedisSettings(_Section):
    """The cache of current states of the profile `kafka`."""

    url: SecretStr = SecretStr("redis://127.0.0.1:6379/0")
    cluster: bool = Field(False, description="whether the URL is that of a Redis Cluster")
    timeout_ms: int = Field(1_000, ge=50)
    ended_ttl_s: int = Field(3_600, ge=1, description="of workflows that are over")
    live_ttl_s: int = Field(604_800, ge=60, description="of others, since their last change")


class MongoSettings(_Section):
    """History, search, catalog, webhooks and the index of commands of the profile `kafka`."""

    uri: SecretStr = SecretStr("mongodb://127.0.0.1:27017/?replicaSet=orchx")
    database: str = Field("orchx", pattern=r"^[a-zA-Z0-9_-]{1,60}$")
    timeout_ms: int = Field(10_000, ge=500)


class Settings(BaseSettings):
    """All of orchx's settings."""

    model_config = SettingsConfigDict(
        frozen=True, env_prefix="ORCHX_", env_nested_delimiter="__", extra="forbid"
    )

    profile: Literal["embedded", "kafka"] = Field(
        "embedded", description="files on one machine, or Kafka, Redis and MongoDB"
    )
    data_dir: Path = Path("orchx-data")
    engine: str = Field(
        "",
        pattern=r"^[a-zA-Z0-9._-]{0,200}$",
        description="this engine's name among those that share Kafka, the same after a restart; "
        "made of the host's name, the namespace and the data folder if empty",
    )
    namespace: str = Field("orchx", pattern=r"^[a-z][a-z0-9-]{0,40}$", description="Ray namespace")
    task_modules: tuple[str, ...] = Field(
        (), description="modules that register @orchx.task functions"
    )
    definitions: tuple[Path, ...] = Field((), description="files published at start")
    services: tuple[Path, ...] = Field((), description="service files loaded at start")
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    http: HttpSettings = HttpSettings()
    admission: AdmissionSettings = AdmissionSettings()
    owners: OwnerSettings = OwnerSettings()
    pools: PoolSettings = PoolSettings()
    evaluator: EvaluatorSettings = EvaluatorSettings()
    webhooks: WebhookSettings = WebhookSettings()
    retention: RetentionSettings = RetentionSettings()
    sweep: SweepSettings = SweepSettings()
    cluster: ClusterSettings = ClusterSettings()
    kafka: KafkaSettings = KafkaSettings()
    redis: RedisSettings = RedisSettings()
    mongodb: MongoSettings = MongoSettings()
