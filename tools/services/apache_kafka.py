"""Apache Kafka from the jars that Maven fetches: processes that are broker and controller each."""

from __future__ import annotations

import base64
import hashlib
import re
import shutil
import tempfile
import uuid
from dataclasses import dataclass
from pathlib import Path

from tools.services.ports import HOST
from tools.services.server import Launch, UnobtainableError, output_of

POM = Path(__file__).resolve().parent / "kafka" / "pom.xml"
FETCH_TIMEOUT_S = 900.0
_FORMAT_TIMEOUT_S = 120.0
_HASH_DIGITS = 8
MOST_COPIES = 3
_FORMATTED = "meta.properties"
# The machine's cores are the tests': the serial collector, and no second compiler, which keeps a
# tenth of a core busy with each broker for minutes to make faster what is ended soon after.
_JAVA = (
    "-Xms128m",
    "-Xmx512m",
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",
    "-Djava.awt.headless=true",
)
_LOG = (
    "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
    "-Dorg.slf4j.simpleLogger.showDateTime=true",
    "-Dorg.slf4j.simpleLogger.dateTimeFormat=HH:mm:ss.SSS",
)
_PROPERTIES = """\
process.roles=broker,controller
node.id={node_id}
controller.quorum.voters={voters}
listeners=PLAINTEXT://{host}:{port},CONTROLLER://{host}:{controller_port}
advertised.listeners=PLAINTEXT://{host}:{port}
controller.listener.names=CONTROLLER
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
log.dirs={data}
auto.create.topics.enable=false
group.initial.rebalance.delay.ms=0
offsets.topic.replication.factor={copies}
offsets.topic.num.partitions=4
transaction.state.log.replication.factor={copies}
transaction.state.log.min.isr={in_sync}
transaction.state.log.num.partitions=4
share.coordinator.state.topic.replication.factor={copies}
share.coordinator.state.topic.min.isr={in_sync}
share.coordinator.state.topic.num.partitions=1
log.cleaner.dedupe.buffer.size=16777216
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Broker:
    """One process of a cluster.

    Args:
        port: of clients and of the other brokers.
        controller_port: of the brokers' talk with the controllers.
        voters: all processes of the cluster, as `id@host:controller_port`; this one alone if
            empty.
        cluster: the cluster's id, which all its processes are formatted with; a new one if empty.
    """

    port: int
    controller_port: int
    host: str = HOST
    node_id: int = 1
    voters: tuple[str, ...] = ()
    cluster: str = ""


def prepare(folder: Path, broker: Broker, *, jars: Path) -> Launch:
    """Write the configuration, format the storage the first time, return how it is started.

    Args:
        folder: where configuration and data are kept.
        broker: which.
        jars: folder of Kafka's jars.

    Raises:
        UnobtainableError: Java does not run, or the storage cannot be formatted.
    """
    data = folder / "data"
    settings = folder / "server.properties"
    settings.write_text(properties(data, broker))
    java = str(shutil.which("java"))
    program = (*_JAVA, *_LOG, "-cp", f"{jars}/*")
    if not (data / _FORMATTED).exists():
        cluster = broker.cluster or cluster_id()
        tool = ("kafka.tools.StorageTool", "format", "-t", cluster, "-c", str(settings))
        output_of([java, *program, *tool], timeout_s=_FORMAT_TIMEOUT_S)
    return Launch(
        description=f"Apache Kafka {kafka_version(POM.read_text())}",
        command=(java, *program, "kafka.Kafka", str(settings)),
    )


def properties(data: Path, broker: Broker) -> str:
    """Return the text of server.properties: its own address only, up to three copies of all."""
    copies = max(1, min(len(broker.voters), MOST_COPIES))
    return _PROPERTIES.format(
        host=broker.host,
        port=broker.port,
        controller_port=broker.controller_port,
        node_id=broker.node_id,
        voters=",".join(broker.voters)
        or f"{broker.node_id}@{broker.host}:{broker.controller_port}",
        copies=copies,
        in_sync=copies // 2 + 1,
        data=data,
    )


def cluster_id() -> str:
    """Return a new cluster's id, in Kafka's form: 22 characters that do not begin with a dash."""
    text = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
    return "A" + text[1:]


def kafka_version(pom: str) -> str:
    """Return the version of Kafka that the pom asks for."""
    found = re.search(r"<kafka\.version>([^<]+)</kafka\.version>", pom)
    if found is None:
        raise UnobtainableError(f"{POM.name} names no kafka.version")
    return found.group(1)


def jars(libraries: Path) -> Path:
    """Return the folder of Kafka's jars below `libraries`, fetching them by Maven the first time.

    The folder's name tells for which pom.xml it is, and it appears only when it is complete.

    Raises:
        UnobtainableError: Maven cannot fetch them.
    """
    pom = POM.read_text()
    digest = hashlib.sha256(pom.encode()).hexdigest()[:_HASH_DIGITS]
    folder = libraries / f"{kafka_version(pom)}-{digest}"
    if folder.exists():
        return folder
    libraries.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=libraries) as scratch:
        fetched = Path(scratch) / "jars"
        maven = [
            str(shutil.which("mvn")),
            "-B",
            "-ntp",
            "-q",
            "-Dstyle.color=never",
            "-f",
            str(POM),
        ]
        goal = ["dependency:copy-dependencies", f"-DoutputDirectory={fetched}"]
        try:
            output_of([*maven, *goal], timeout_s=FETCH_TIMEOUT_S)
            fetched.rename(folder)
        except UnobtainableError as error:
            raise UnobtainableError(f"{error} (without it: ORCHX_SERVICES_KAFKA=tansu)") from error
        except OSError:
            if not folder.exists():  # else another process fetched them meanwhile
                raise
    return folder
