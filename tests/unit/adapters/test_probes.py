"""What is read off a topic's description and a disk: whether records could be taken."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from orchx.adapters import disk_probe
from orchx.adapters.disk_probe import FREE_BYTES_MIN, DiskProbe
from orchx.adapters.kafka_probe import unwritable
from orchx.errors import DriverError, StorageFull


def topic(*in_sync: int, leader: int = 1, error: int = 0, replicas: int = 3) -> dict[str, Any]:
    partitions = [
        {
            "partition_index": number,
            "leader_id": leader,
            "isr_nodes": list(range(count)),
            "replica_nodes": list(range(replicas)),
        }
        for number, count in enumerate(in_sync)
    ]
    return {"name": "x.events", "error_code": error, "partitions": partitions}


class TestTopics:
    @pytest.mark.parametrize(
        ("found", "needed", "told"),
        [
            (topic(1, 1), 2, ["needs 2 replicas", "partition 0 has 1, partition 1 has 1"]),
            (topic(2, 1), 2, ["written: partition 1 has 1;", "ORCHX_KAFKA__MIN_INSYNC_REPLICAS"]),
            (topic(1, leader=-1), 1, ["partition 0 has no leader", "BOOTSTRAP_SERVERS"]),
            (topic(error=3), 1, ["x.events does not exist", "ORCHX_KAFKA__TOPIC_PREFIX"]),
            (topic(error=29), 1, ["TopicAuthorizationFailed"]),
            (topic(*[0] * 9), 1, ["partition 4 has 0, …"]),
        ],
    )
    def test_that_take_no_records_are_told(
        self, found: dict[str, Any], needed: int, told: list[str]
    ) -> None:
        [line] = unwritable([found], {"x.events": needed})
        assert [part for part in told if part not in line] == []

    @pytest.mark.parametrize("needed", [{}, {"x.events": 2}])
    def test_that_take_records_are_not(self, needed: dict[str, int]) -> None:
        assert list(unwritable([topic(2, 3)], needed)) == []

    def test_that_have_no_more_replicas_need_no_more(self) -> None:
        assert list(unwritable([topic(1, replicas=1)], {"x.events": 2})) == []


class TestDisk:
    async def test_with_room_is_well(self, tmp_path: Path) -> None:
        await DiskProbe(tmp_path).check()

    async def test_without_room_is_told(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        left = SimpleNamespace(free=FREE_BYTES_MIN - 1)
        monkeypatch.setattr(disk_probe, "shutil", SimpleNamespace(disk_usage=lambda _: left))
        with pytest.raises(StorageFull, match="ORCHX_DATA_DIR"):
            await DiskProbe(tmp_path).check()

    async def test_that_is_gone_is_told(self, tmp_path: Path) -> None:
        folder = tmp_path / "data"
        folder.mkdir()
        probe = DiskProbe(folder)
        shutil.rmtree(folder)
        with pytest.raises(DriverError, match="No such file"):
            await probe.check()
