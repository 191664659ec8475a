"""The servers under the profile `kafka`, for as long as a benchmark takes, on the disk measured."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

from pydantic import SecretStr

from benchmarks.machine import cpu_s_of, tree_cpu_s
from orchx.settings import KafkaSettings, MongoSettings, RedisSettings, Settings
from tools.services.running import running
from tools.services.store_environment import environment

ProfileName: TypeAlias = Literal["embedded", "kafka"]
PROFILES: Final[tuple[ProfileName, ...]] = ("embedded", "kafka")


@dataclass(frozen=True, slots=True, kw_only=True)
class Servers:
    """What a profile needs: fields of the settings, and the servers' processes by id."""

    profile: ProfileName
    settings: Mapping[str, Any] = field(default_factory=dict)
    pids: Mapping[int, str] = field(default_factory=dict)

    def environment(self) -> Mapping[str, str]:
        """Return the variables that say the same to a process of its own."""
        return {} if self.profile == "embedded" else environment(Settings(**self.settings))

    def cpu_s(self) -> float:
        """Return the CPU seconds that the servers have used."""
        return sum(map(cpu_s_of, self.pids))

    def engine_cpu_s(self) -> float:
        """Return the CPU seconds of this process and its descendants, the servers left out."""
        return tree_cpu_s(os.getpid()) - self.cpu_s()


@contextmanager
def servers(profile: ProfileName, folder: Path) -> Iterator[Servers]:
    """Run what a profile needs, with its data in `folder`.

    Raises:
        RuntimeError: a server could not be had; which, and why, is in the message.
    """
    if profile == "embedded":
        yield Servers(profile=profile)
        return
    with running(folder / "servers") as outcome:
        if outcome.missing:
            raise RuntimeError("; ".join(map(str, outcome.missing)))
        at = outcome.addresses()
        addresses = (at[f"ORCHX_TEST_{name}"] for name in ("KAFKA", "MONGODB", "REDIS"))
        yield Servers(
            profile=profile,
            settings=_settings(*addresses),
            pids={each.process.pid: each.server.name for each in outcome.running},
        )


def _settings(kafka: str, mongodb: str, redis: str) -> Mapping[str, Any]:
    name = f"bench-{secrets.token_hex(4)}"
    return {
        "profile": "kafka",
        "kafka": KafkaSettings(bootstrap_servers=(kafka,), topic_prefix=name),
        "mongodb": MongoSettings(uri=SecretStr(mongodb), database=name),
        "redis": RedisSettings(url=SecretStr(redis)),
    }
