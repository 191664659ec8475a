"""Reaching Kafka: a client's options, the topics' names, and saying what went wrong.

`open_client` is the only place where clients of kafka-python are made. It blocks, so it runs
in a thread.
"""

from __future__ import annotations

import os
import selectors
import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final, TypeVar
from weakref import WeakSet

from kafka import KafkaConsumer, errors
from kafka.net.compat import KafkaNetClient
from kafka.net.inet import KafkaNetSocket
from kafka.net.manager import KafkaConnectionManager
from kafka.net.selector import NetworkSelector
from kafka.partitioner import murmur2

from orchx.errors import DriverError, OrchxError
from orchx.settings import KafkaSettings

VERSION_MIN: Final = (2, 5)  # the first whose producers recover from a lost sequence (KIP-360)
RECONNECT_MAX_MS: Final = 1_000  # a broker that is back is used within this time
METADATA_AGE_MS: Final = 60_000
PARTITIONS_CACHED: Final = 65_536
METADATA_ASKS: Final = 2  # the first answer may be to a question from before ours

DRIVER_ERRORS: Final = (errors.KafkaError, OSError, ValueError)
"""What kafka-python raises: its own errors, sockets' and TLS's, and of wrong options."""

REFUSALS: Final = (
    errors.SaslAuthenticationFailedError,
    errors.UnsupportedSaslMechanismError,
    errors.IllegalSaslStateError,
    errors.AuthorizationError,
    errors.UnsupportedVersionError,
)


class UntrustedBroker(errors.KafkaConnectionError):
    """A broker's certificate is not one that is trusted."""


Client = TypeVar("Client")

_SCHEME: Final = "orchx-direct"


@dataclass(frozen=True, slots=True)
class Topics:
    """The topics of one installation."""

    prefix: str

    @property
    def events(self) -> str:
        """The event log: one record per turn, key = workflow id, kept for ever."""
        return f"{self.prefix}.events"

    @property
    def commands(self) -> str:
        """The command queue, with as many partitions as the events."""
        return f"{self.prefix}.commands"

    @property
    def plans(self) -> str:
        """Pinned plans: key = digest, compacted, one partition."""
        return f"{self.prefix}.plans"

    @property
    def dead_letters(self) -> str:
        """Copies of records that cannot be read."""
        return f"{self.prefix}.dead-letters"


def group_of(settings: KafkaSettings) -> str:
    """Return the group whose members are the engines, and share the partitions."""
    return f"{settings.topic_prefix}.dispatcher"


@lru_cache(maxsize=PARTITIONS_CACHED)
def partition_of(workflow_id: str, count: int) -> int:
    """Return the partition of a workflow among `count`.

    It is that of Kafka's own default partitioner (murmur2 of the key's UTF-8 bytes, sign bit
    cleared, modulo the count), so that other clients agree.
    """
    return int((murmur2(workflow_id.encode()) & 0x7FFFFFFF) % count)


def client_options(settings: KafkaSettings, role: str) -> dict[str, Any]:
    """Return the options that every client of kafka-python takes.

    Args:
        settings: where Kafka is, and how to get in.
        role: what the client does, to be found again in the broker's logs and metrics.

    Raises:
        DriverError: the file of certificates cannot be used.
    """
    options: dict[str, Any] = {
        "bootstrap_servers": list(settings.bootstrap_servers),
        "client_id": f"{settings.topic_prefix}-{role}-{os.getpid()}",
        "request_timeout_ms": settings.request_timeout_ms,
        "bootstrap_timeout_ms": settings.request_timeout_ms,
        "reconnect_backoff_max_ms": RECONNECT_MAX_MS,
        "metadata_max_age_ms": METADATA_AGE_MS,
        "security_protocol": settings.security_protocol,
        "proxy_url": f"{_SCHEME}://",
    }
    if settings.security_protocol.endswith("SSL"):
        options["ssl_context"] = _tls(settings)
    if settings.security_protocol.startswith("SASL"):
        password = settings.sasl_password
        options["sasl_mechanism"] = settings.sasl_mechanism
        options["sasl_plain_username"] = settings.sasl_username or ""
        options["sasl_plain_password"] = "" if password is None else password.get_secret_value()
    return options


def open_client(
    factory: Callable[..., Client], settings: KafkaSettings, role: str, **options: Any
) -> Client:
    """Connect a client, in `request_timeout_ms` at most; to be called in a thread.

    Args:
        factory: `KafkaProducer`, `KafkaConsumer` or `KafkaAdminClient`.
        settings: where Kafka is, and how to get in.
        role: see `client_options`.
        options: further options of the factory.

    Raises:
        DriverError: no broker answered, or none that can be used.
    """
    attempt = _Attempt()
    try:
        options = {**client_options(settings, role), **options, "kafka_client": attempt}
        client = factory(**options)
        version = attempt.version()
        if version < VERSION_MIN:
            found = ".".join(map(str, version))
            raise errors.UnrecognizedBrokerVersion(f"the brokers' version is {found}")
    except DRIVER_ERRORS as error:
        cause = attempt.refused() or error
        attempt.close()
        raise translated(cause, settings, f"connect as {role}") from error
    return client


class _TlsSocket(ssl.SSLSocket):
    """Closes what shakes no hands: kafka-python (3.0.12) leaves that to the garbage collector."""

    def do_handshake(self, block: bool = False) -> None:
        try:
            super().do_handshake(block)
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            raise  # it is not over yet
        except OSError:
            self.close()
            raise


def _tls(settings: KafkaSettings) -> ssl.SSLContext:
    """Return how brokers have to prove who they are.

    Raises:
        DriverError: the file of certificates cannot be used.
    """
    try:
        context = ssl.create_default_context(cafile=settings.ssl_cafile)
    except OSError as error:  # `ssl.SSLError` is one
        raise DriverError(
            f"ORCHX_KAFKA__SSL_CAFILE ({settings.ssl_cafile}) cannot be used: "
            f"{error.strerror or error}"
        ) from error
    context.sslsocket_class = _TlsSocket
    return context


def partitions_of(consumer: KafkaConsumer, topic: str, timeout_ms: int) -> set[int]:
    """Return a topic's partitions; the client's own call waits without a limit (3.0.12).

    Args:
        consumer: to be used by this thread alone.
        topic: it is not made if it is missing.
        timeout_ms: for each of at most `METADATA_ASKS` questions.

    Raises:
        KafkaError: the topic does not exist, or no broker answered in time.
    """
    cluster: Any = consumer._cluster  # type: ignore[attr-defined]
    cluster.add_topic(topic)
    for _ in range(METADATA_ASKS):
        found: set[int] | None = cluster.partitions_for_topic(topic)
        if found:
            return found
        ask_metadata(consumer, timeout_ms)
    found = cluster.partitions_for_topic(topic)
    if not found:
        raise errors.UnknownTopicOrPartitionError(topic)
    return found


def ask_metadata(consumer: KafkaConsumer, timeout_ms: int) -> None:
    """Have a consumer learn anew where its topics' partitions are.

    Raises:
        KafkaError: no broker answered in time.
    """
    client: Any = consumer
    client._net.run(client._manager.wait_for, client._cluster.request_update(), timeout_ms)


class _Selector(selectors.DefaultSelector):
    """Remembers its sockets: those that still shake hands over TLS in the end are closed then."""

    def __init__(self) -> None:
        super().__init__()
        self._seen: WeakSet[socket.socket] = WeakSet()

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        self._seen.add(fileobj)
        return super().register(fileobj, events, data)

    def close(self) -> None:
        super().close()
        for each in list(self._seen):
            each.close()


class _Socket(KafkaNetSocket):
    """Closes what cannot connect: kafka-python (3.0.12) leaves that to the garbage collector."""

    SCHEMES = (_SCHEME,)  # under which its own registry finds this class

    async def sock_connect(self, net: Any, sock: socket.socket, *where: Any, **options: Any) -> Any:
        try:
            return await super().sock_connect(net, sock, *where, **options)  # type: ignore[no-untyped-call]
        except BaseException:
            sock.close()
            raise


class _Manager(KafkaConnectionManager):
    """Remembers a broker's refusal: of that, clients only say that their time was up."""

    refusal: Exception | None = None

    def get_connection(self, *arguments: Any, **options: Any) -> Any:
        connection = super().get_connection(*arguments, **options)
        connection.init_future.add_errback(self._note, connection)
        return connection

    def _note(self, connection: Any, error: Exception) -> None:
        if isinstance(error, REFUSALS):
            self.refusal = error
        elif "CERTIFICATE_VERIFY_FAILED" in str(error):
            self.refusal = UntrustedBroker(str(error))
        elif connection.sasl_enabled and connection.broker_version_data is not None:
            # It spoke, and hung up when it was told who we are. Its last words are lost: they
            # come together with the end of the connection, which kafka-python sees first.
            self.refusal = errors.SaslAuthenticationFailedError("the broker hung up")


class _Attempt:
    """What a client is made with; kept, because a client that fails to start closes nothing."""

    def __init__(self) -> None:
        self._manager: _Manager | None = None
        self._client: KafkaNetClient | None = None

    def __call__(self, **configs: Any) -> KafkaNetClient:
        net = NetworkSelector(**{**configs, "selector": _Selector})
        self._manager = _Manager(net, **configs)
        self._client = KafkaNetClient(net=net, manager=self._manager)
        return self._client

    def version(self) -> tuple[int, ...]:
        found = None if self._manager is None else self._manager.broker_version
        return VERSION_MIN if found is None else tuple(found)

    def refused(self) -> Exception | None:
        return None if self._manager is None else self._manager.refusal

    def close(self) -> None:
        if self._client is not None:
            self._client.close()


def translated(error: Exception, settings: KafkaSettings, doing: str) -> OrchxError:
    """Return the error of our tree for one of kafka-python's; raise it `from` the latter.

    Args:
        error: what was raised.
        settings: whose fields the text names, where they can be to blame.
        doing: what was tried, such as `append to orchx.events`.
    """
    servers = ",".join(settings.bootstrap_servers)
    advice = next((text for types, text in _ADVICE if isinstance(error, types)), None)
    if advice is None:
        return DriverError(f"Kafka at {servers}: cannot {doing}: {_text(error)}")
    advice = advice.format(servers=servers, s=settings)
    return DriverError(f"Kafka at {servers}: cannot {doing}: {advice} ({_text(error)})")


def _text(error: Exception) -> str:
    description = getattr(error, "description", None)
    return f"{error}: {description}" if description and not error.args else str(error)


_CREDENTIALS: Final = (
    "the brokers refuse the credentials of user {s.sasl_username!r}; look at "
    "ORCHX_KAFKA__SASL_USERNAME, ORCHX_KAFKA__SASL_PASSWORD, ORCHX_KAFKA__SASL_MECHANISM "
    "({s.sasl_mechanism}) and ORCHX_KAFKA__SECURITY_PROTOCOL ({s.security_protocol})"
)
_NOT_DURABLE: Final = (
    "fewer replicas are in sync than the topic's min.insync.replicas asks for; start the missing "
    "brokers, or lower it (ORCHX_KAFKA__MIN_INSYNC_REPLICAS is {s.min_insync_replicas} here)"
)
_ADVICE: Final[tuple[tuple[tuple[type[Exception], ...], str], ...]] = (
    (
        (
            errors.SaslAuthenticationFailedError,
            errors.UnsupportedSaslMechanismError,
            errors.IllegalSaslStateError,
        ),
        _CREDENTIALS,
    ),
    (
        (errors.AuthorizationError,),
        "user {s.sasl_username!r} lacks the right (an ACL) on the topics, groups or cluster of "
        "ORCHX_KAFKA__TOPIC_PREFIX {s.topic_prefix!r}",
    ),
    ((errors.NotEnoughReplicasError, errors.NotEnoughReplicasAfterAppendError), _NOT_DURABLE),
    (
        (errors.UnknownTopicOrPartitionError, errors.InvalidTopicError),
        "the topic, or a partition of it, does not exist; orchx makes its topics when it starts, "
        "named by ORCHX_KAFKA__TOPIC_PREFIX ({s.topic_prefix!r} here)",
    ),
    (
        (errors.InvalidReplicationFactorError,),
        "ORCHX_KAFKA__REPLICATION_FACTOR is {s.replication_factor}: there are fewer brokers",
    ),
    (
        (errors.MessageSizeTooLargeError, errors.RecordListTooLargeError),
        "the record is larger than the topic's max.message.bytes; or `orchx repartition` has "
        "sealed the topic: see ORCHX_KAFKA__TOPIC_PREFIX ({s.topic_prefix!r} here)",
    ),
    (
        (errors.UnsupportedVersionError, errors.UnrecognizedBrokerVersion),
        f"the brokers' version does not match: Kafka {'.'.join(map(str, VERSION_MIN))} or newer "
        "is needed at ORCHX_KAFKA__BOOTSTRAP_SERVERS",
    ),
    ((errors.KafkaStorageError,), "a broker's disk failed"),
    (
        (UntrustedBroker,),
        "the brokers' certificate is not vouched for by ORCHX_KAFKA__SSL_CAFILE ({s.ssl_cafile}; "
        "None: by the system's own), or is for another host than the one in "
        "ORCHX_KAFKA__BOOTSTRAP_SERVERS",
    ),
    (
        (
            errors.KafkaTimeoutError,
            errors.KafkaConnectionError,
            errors.NodeNotReadyError,
            errors.LeaderNotAvailableError,
            errors.NotLeaderForPartitionError,
            errors.RequestTimedOutError,
            errors.BrokerNotAvailableError,
            OSError,
        ),
        "no broker answered in time; are the ones of ORCHX_KAFKA__BOOTSTRAP_SERVERS up, is "
        "ORCHX_KAFKA__SECURITY_PROTOCOL ({s.security_protocol}) theirs, and are enough replicas "
        "in sync (ORCHX_KAFKA__MIN_INSYNC_REPLICAS)?",
    ),
)
