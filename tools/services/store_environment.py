"""The stores of the profile `kafka`, as the environment of a process has them."""

from __future__ import annotations

import json

from orchx.settings import Settings


def environment(settings: Settings) -> dict[str, str]:
    """Return the variables by which another process has the same stores."""
    kafka, mongodb = settings.kafka, settings.mongodb
    return {
        "ORCHX_PROFILE": "kafka",
        "ORCHX_KAFKA__BOOTSTRAP_SERVERS": json.dumps(kafka.bootstrap_servers),
        "ORCHX_KAFKA__TOPIC_PREFIX": kafka.topic_prefix,
        "ORCHX_KAFKA__PARTITIONS": str(kafka.partitions),
        "ORCHX_KAFKA__REPLICATION_FACTOR": str(kafka.replication_factor),
        "ORCHX_KAFKA__MIN_INSYNC_REPLICAS": str(kafka.min_insync_replicas),
        "ORCHX_MONGODB__URI": mongodb.uri.get_secret_value(),
        "ORCHX_MONGODB__DATABASE": mongodb.database,
        "ORCHX_REDIS__URL": settings.redis.url.get_secret_value(),
    }
