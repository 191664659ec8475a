"""Which Kafka: Apache's own where Java and Maven are, else Tansu, which speaks its protocol."""

from __future__ import annotations

import logging
import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from kafka import KafkaAdminClient
from kafka.errors import KafkaError

from tools.services import apache_kafka, tansu
from tools.services.ports import HOST, is_listening
from tools.services.server import Launch, UnobtainableError, output_of

CHOICE = "ORCHX_SERVICES_KAFKA"
APACHE = "apache"
TANSU = "tansu"
MIN_JAVA = 17
_RUN_TIMEOUT_S = 20.0
_ANSWER_TIMEOUT_MS = 3_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """A Kafka, and why it is this one (empty if there is nothing to explain)."""

    kafka: str
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class KafkaServer:
    """One broker, which with Apache's is a controller too.

    Args:
        libraries: folder in which Apache Kafka's jars are kept from one time to the next.
        node_id, voters, cluster: of a cluster of several, see `apache_kafka.Broker`.
    """

    port: int
    controller_port: int
    libraries: Path
    host: str = HOST
    node_id: int = 1
    voters: tuple[str, ...] = ()
    cluster: str = ""
    name: str = "kafka"
    variable: str = "ORCHX_TEST_KAFKA"

    @property
    def address(self) -> str:
        """The bootstrap server."""
        return f"{self.host}:{self.port}"

    def prepare(self, folder: Path) -> Launch:
        """See `Server.prepare`."""
        choice = choose(os.environ, java=java_version(), has_maven=shutil.which("mvn") is not None)
        if choice.kafka == TANSU:
            return tansu.prepare(self.port, reason=choice.reason)
        try:
            jars = apache_kafka.jars(self.libraries)
        except UnobtainableError as error:
            if os.environ.get(CHOICE) == APACHE:
                raise
            return tansu.prepare(self.port, reason=f"Maven cannot fetch that: {error}")
        broker = apache_kafka.Broker(
            host=self.host,
            port=self.port,
            controller_port=self.controller_port,
            node_id=self.node_id,
            voters=self.voters,
            cluster=self.cluster,
        )
        return apache_kafka.prepare(folder, broker, jars=jars)

    def is_ready(self) -> bool:
        """Tell whether it answers an admin client's request."""
        if not is_listening(self.port, self.host):
            return False
        logging.getLogger("kafka").setLevel(logging.CRITICAL)  # that it is not ready is no news
        try:
            client = KafkaAdminClient(
                bootstrap_servers=self.address,
                bootstrap_timeout_ms=_ANSWER_TIMEOUT_MS,
                request_timeout_ms=_ANSWER_TIMEOUT_MS,
            )
            try:
                client.list_topics()
            finally:
                client.close()
        except KafkaError:
            return False
        return True


def choose(environ: Mapping[str, str], *, java: int | None, has_maven: bool) -> Choice:
    """Choose a Kafka by what there is, unless `ORCHX_SERVICES_KAFKA` says which.

    Args:
        environ: environment variables.
        java: the major version of the Java there is, if any.
        has_maven: whether there is the command `mvn`.

    Raises:
        UnobtainableError: the variable names another, or one that cannot be had.
    """
    lacking = []
    if java is None:
        lacking.append(f"no Java {MIN_JAVA} or newer")
    elif java < MIN_JAVA:
        lacking.append(f"Java is {java}, not {MIN_JAVA} or newer")
    if not has_maven:
        lacking.append("no Maven")
    reason = ", ".join(lacking)
    forced = environ.get(CHOICE, "")
    if forced not in ("", APACHE, TANSU):
        raise UnobtainableError(f"{CHOICE} is {forced!r}: it may be {APACHE} or {TANSU}")
    if forced == TANSU:
        return Choice(kafka=TANSU, reason=f"as {CHOICE} says")
    if forced == APACHE and reason:
        raise UnobtainableError(f"{CHOICE} asks for Apache Kafka, but there is {reason}")
    if reason:
        return Choice(kafka=TANSU, reason=reason)
    return Choice(kafka=APACHE)


def java_version() -> int | None:
    """Return the major version of the `java` on PATH, or None if there is none that runs."""
    program = shutil.which("java")
    if program is None:
        return None
    try:
        return parse_java_version(output_of([program, "-version"], timeout_s=_RUN_TIMEOUT_S))
    except UnobtainableError:
        return None


def parse_java_version(printed: str) -> int | None:
    """Read the major version out of what `java -version` prints: 17 of 17.0.15, 8 of 1.8.0."""
    found = re.search(r'version "(?:1\.)?(\d+)', printed)
    return int(found.group(1)) if found else None
