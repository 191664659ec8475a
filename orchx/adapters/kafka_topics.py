"""The topics that orchx needs: made where they are missing, checked where they are not."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from kafka import errors
from kafka.admin import ConfigResource, ConfigResourceType, KafkaAdminClient

from orchx.adapters.kafka_connection import DRIVER_ERRORS, Topics, open_client, translated
from orchx.errors import DriverError
from orchx.settings import KafkaSettings

MESSAGE_BYTES_MAX: Final = 9 * 1_048_576  # a turn of 4 MiB and its escapes, with room
COMMANDS_RETENTION_MS: Final = 14 * 86_400_000
DEAD_LETTERS_RETENTION_MS: Final = 90 * 86_400_000
TOPIC_WAIT_S: Final = 30.0
TOPIC_PAUSE_S: Final = 0.1
MISSING: Final = "is missing"
FOR_EVER: Final = -1
SEALED: Final = "0"
"""The largest message of a topic that takes none any more."""

SEALED_ADVICE: Final = (
    "`orchx repartition` has moved it, and told the ORCHX_KAFKA__TOPIC_PREFIX to be set, or was "
    "cut short: run it again, or with --undo"
)

_MISSING: Final = errors.UnknownTopicOrPartitionError.errno
_EXISTS: Final = errors.TopicAlreadyExistsError.errno


@dataclass(frozen=True, slots=True, kw_only=True)
class _Wanted:
    """A topic as it should be; `retention_ms` -1 keeps everything, None is not looked at."""

    partitions: int
    cleanup: str
    retention_ms: int | None

    def configs(self, settings: KafkaSettings) -> dict[str, str]:
        configs = {
            "cleanup.policy": self.cleanup,
            "compression.type": "producer",  # else the broker packs every batch anew
            "max.message.bytes": str(MESSAGE_BYTES_MAX),
            "min.insync.replicas": str(settings.min_insync_replicas),
            "unclean.leader.election.enable": "false",
        }
        if self.retention_ms is not None:
            configs["retention.ms"] = str(self.retention_ms)
            configs["retention.bytes"] = str(FOR_EVER)
        return configs


def ensure_topics(settings: KafkaSettings) -> None:
    """Make the topics that are missing and check those that are there; blocks.

    Only topics that are made get `partitions` and `replication_factor` from the settings.
    Several processes may do this at once.

    Raises:
        DriverError: Kafka cannot be reached, or topics are not as they must be: all that is
            wrong with them is in the one text.
    """
    admin = open_client(KafkaAdminClient, settings, "topics")
    try:
        _ensure(admin, settings)
    except DRIVER_ERRORS as error:
        topics = Topics(settings.topic_prefix)
        doing = f"make or check the topics {topics.events}, {topics.commands}, {topics.plans}"
        raise translated(error, settings, doing) from error
    finally:
        admin.close()


def existing_topics(admin: KafkaAdminClient, settings: KafkaSettings) -> dict[str, int]:
    """Return the partition count of each topic that is there.

    Raises:
        KafkaError: Kafka does not tell.
    """
    return _partitions(admin, _names(settings))


def topic_deviations(admin: KafkaAdminClient, settings: KafkaSettings) -> Iterator[str]:
    """Yield a line for everything that is wrong with the topics, those that are missing included.

    Raises:
        KafkaError: Kafka does not tell.
    """
    there = existing_topics(admin, settings)
    wanted = _wanted(there, settings)
    yield from (f"{name} {MISSING}" for name in wanted if name not in there)
    found = {name: one for name, one in wanted.items() if name in there}
    if found:
        yield from _deviations(admin, found, settings)


def _names(settings: KafkaSettings) -> tuple[str, ...]:
    topics = Topics(settings.topic_prefix)
    return topics.events, topics.commands, topics.plans, topics.dead_letters


def _wanted(there: Mapping[str, int], settings: KafkaSettings) -> dict[str, _Wanted]:
    topics = Topics(settings.topic_prefix)
    # The two go together: a workflow's commands and its events are served by one engine.
    count = there.get(topics.events) or there.get(topics.commands) or settings.partitions
    return {
        topics.events: _Wanted(partitions=count, cleanup="delete", retention_ms=FOR_EVER),
        topics.commands: _Wanted(
            partitions=count, cleanup="delete", retention_ms=COMMANDS_RETENTION_MS
        ),
        topics.plans: _Wanted(partitions=1, cleanup="compact", retention_ms=None),
        topics.dead_letters: _Wanted(
            partitions=1, cleanup="delete", retention_ms=DEAD_LETTERS_RETENTION_MS
        ),
    }


def _ensure(admin: KafkaAdminClient, settings: KafkaSettings) -> None:
    names = _names(settings)
    there = _partitions(admin, names)
    wanted = _wanted(there, settings)
    _make(admin, {name: wanted[name] for name in names if name not in there}, settings)
    until_s = time.monotonic() + TOPIC_WAIT_S
    admin.wait_for_topics(list(names), timeout_ms=TOPIC_WAIT_S * 1000)
    found = list(_deviations(admin, wanted, settings))
    # Of several brokers the next one that is asked may not have heard of them.
    while any(line.endswith(MISSING) for line in found) and time.monotonic() < until_s:
        time.sleep(TOPIC_PAUSE_S)
        found = list(_deviations(admin, wanted, settings))
    if found:
        raise DriverError(
            "topics of Kafka are not as orchx needs them (ORCHX_KAFKA__TOPIC_PREFIX is "
            f"{settings.topic_prefix!r}):\n" + "\n".join(f"  {line}" for line in found)
        )


def _partitions(admin: KafkaAdminClient, names: tuple[str, ...]) -> dict[str, int]:
    """Return the partition count of each topic that is there."""
    counts = {}
    for topic in admin.describe_topics(list(names)):
        if topic["error_code"] == 0:
            counts[topic["name"]] = len(topic["partitions"])
        elif topic["error_code"] != _MISSING:
            raise _error(topic["error_code"], topic["name"])
    return counts


def _make(admin: KafkaAdminClient, missing: Mapping[str, _Wanted], settings: KafkaSettings) -> None:
    if not missing:
        return
    made = admin.create_topics(
        {
            name: {
                "num_partitions": wanted.partitions,
                "replication_factor": settings.replication_factor,
                "configs": wanted.configs(settings),
            }
            for name, wanted in missing.items()
        },
        raise_errors=False,
    )
    for topic in made["topics"]:
        if topic["error_code"] not in (0, _EXISTS):  # another process was faster
            detail = topic.get("error_message") or topic["name"]
            raise _error(topic["error_code"], f"{topic['name']}: {detail}")


def _deviations(
    admin: KafkaAdminClient, wanted: Mapping[str, _Wanted], settings: KafkaSettings
) -> Iterator[str]:
    """Yield a line for everything about existing topics that would break a promise."""
    resources = [ConfigResource(ConfigResourceType.TOPIC, name) for name in wanted]
    configs = admin.describe_configs(resources, config_filter="all").get("topic", {})
    for topic in admin.describe_topics(list(wanted)):
        name, partitions = topic["name"], topic["partitions"]
        if topic["error_code"] == _MISSING:  # since a moment ago
            yield f"{name} {MISSING}"
            continue
        if len(partitions) != wanted[name].partitions:
            yield _line(name, "partitions", len(partitions), wanted[name].partitions)
        replicas = min(len(partition["replica_nodes"]) for partition in partitions)
        if replicas < settings.min_insync_replicas:
            yield _line(name, "replicas", replicas, f">= {settings.min_insync_replicas}")
        yield from _config_deviations(name, configs.get(name, {}), wanted[name], settings)


def _config_deviations(
    name: str, configs: Mapping[str, Any], wanted: _Wanted, settings: KafkaSettings
) -> Iterator[str]:
    for key, value in wanted.configs(settings).items():
        found = configs.get(key, {}).get("value")
        if found is None or found == value:  # a broker that does not tell is believed
            continue
        if key == "max.message.bytes" and found == SEALED:
            yield f"{name}: sealed; {SEALED_ADVICE}"
        elif not value.lstrip("-").isdigit():
            yield _line(name, key, found, value)
        elif not _enough(int(found), int(value)):
            yield _line(name, key, found, value if int(value) == FOR_EVER else f">= {value}")


def _enough(found: int, wanted: int) -> bool:
    """Compare limits of which -1 is the largest: no limit."""
    return found == FOR_EVER or (wanted != FOR_EVER and found >= wanted)


def _line(topic: str, what: str, found: object, expected: object) -> str:
    return f"{topic}: {what} is {found}, expected {expected}"


def _error(code: int, text: str) -> Exception:
    error: Exception = errors.for_code(code)(text)  # type: ignore[no-untyped-call]
    return error
