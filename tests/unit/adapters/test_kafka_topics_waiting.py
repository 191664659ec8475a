"""Topics that one broker has made, and another one has not heard of."""

from __future__ import annotations

from unittest.mock import Mock

import pytest

from orchx.adapters import kafka_topics
from orchx.adapters.kafka_topics import MISSING
from orchx.errors import DriverError
from orchx.settings import KafkaSettings


@pytest.fixture
def admin(monkeypatch: pytest.MonkeyPatch) -> Mock:
    made = Mock()
    made.describe_topics.return_value = []
    made.create_topics.return_value = {"topics": []}
    monkeypatch.setattr(kafka_topics, "open_client", lambda *_, **__: made)
    monkeypatch.setattr(kafka_topics, "TOPIC_PAUSE_S", 0.0)
    return made


def test_they_are_looked_for_again(admin: Mock, monkeypatch: pytest.MonkeyPatch) -> None:
    told = [[f"t.events {MISSING}"], [f"t.plans {MISSING}"], []]
    monkeypatch.setattr(kafka_topics, "_deviations", lambda *_: iter(told.pop(0)))
    kafka_topics.ensure_topics(KafkaSettings())
    assert told == []


@pytest.mark.parametrize("line", ["t.events: partitions is 1, expected 3", f"t.events {MISSING}"])
def test_what_stays_wrong_is_told(admin: Mock, monkeypatch: pytest.MonkeyPatch, line: str) -> None:
    monkeypatch.setattr(kafka_topics, "TOPIC_WAIT_S", 0.01)
    monkeypatch.setattr(kafka_topics, "_deviations", lambda *_: iter([line]))
    with pytest.raises(DriverError, match=r"t\.events"):
        kafka_topics.ensure_topics(KafkaSettings())
