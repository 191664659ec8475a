"""A topic counts as sealed only where the broker says so."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from kafka.admin import ConfigResource

from orchx.adapters import kafka_sealing
from orchx.adapters.kafka_topics import MESSAGE_BYTES_MAX
from orchx.errors import DriverError
from orchx.settings import KafkaSettings

TOPIC = "orchx.events"


class Admin:
    """A client that answers as it is told; `asked` is what it was asked to set."""

    def __init__(self, answer: str | Exception) -> None:
        self.asked: dict[str, str] = {}
        self.closed = False
        self._answer = answer

    def alter_configs(self, changes: list[ConfigResource]) -> Mapping[str, Mapping[str, str]]:
        [change] = changes
        self.asked = dict(change.configs or {})
        if isinstance(self._answer, Exception):
            raise self._answer
        return {"topic": {TOPIC: self._answer}}

    def close(self) -> None:
        self.closed = True


def unseal(monkeypatch: pytest.MonkeyPatch, admin: Admin) -> None:
    monkeypatch.setattr(kafka_sealing, "open_client", lambda *_: admin)
    kafka_sealing.unseal(KafkaSettings(), TOPIC)


def test_what_is_done_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    admin = Admin("OK")
    unseal(monkeypatch, admin)
    assert admin.asked == {"max.message.bytes": str(MESSAGE_BYTES_MAX)}
    assert admin.closed


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        ("[Error 29] TopicAuthorizationFailedError", f"does not set .* of {TOPIC}: .*Error 29"),
        (ValueError("Unrecognized configs"), f"cannot alter {TOPIC}: Unrecognized"),
    ],
)
def test_a_refusal_is_raised(
    monkeypatch: pytest.MonkeyPatch, answer: str | Exception, told: str
) -> None:
    admin = Admin(answer)
    with pytest.raises(DriverError, match=told):
        unseal(monkeypatch, admin)
    assert admin.closed
