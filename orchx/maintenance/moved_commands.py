"""What becomes of commands when they are moved to a topic with other partitions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from kafka.consumer.fetcher import ConsumerRecord

from orchx.adapters.kafka_command_records import (
    ReceivedCommand,
    decode_command,
    encode_command,
    key_of,
    partition_of_command,
    receive,
)
from orchx.adapters.kafka_writer import Outgoing
from orchx.adapters.mongo_command_progress import Acknowledged
from orchx.domain.messages import AnyCommand, DeliverEvent
from orchx.engine.routing import relayed_commands


@dataclass(frozen=True, slots=True, kw_only=True)
class Expired:
    """What becomes of commands that the topic has no more.

    `moved` wait, and are written; of the others the ids are `kept` as known, or `left_behind`.
    """

    moved: list[Outgoing] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)
    left_behind: list[str] = field(default_factory=list)


class MovedCommands:
    """Tells what is acknowledged from what waits, and where each goes.

    What was relayed to one partition of the old topic is for workflows that are in all of the new
    one's: if it waits, it is relayed to each of those, by ids by which it counts once; if it is
    acknowledged, it is left behind, so that its id is free.
    """

    def __init__(
        self, topic: str, known: Mapping[int, Acknowledged], *, before: int, count: int
    ) -> None:
        """Move to a topic.

        Args:
            topic: where to.
            known: what is acknowledged of the old one.
            before: how many partitions that has.
            count: how many the new one has.
        """
        self._topic = topic
        self._before = before
        self._count = count
        self._known = known

    def known(self, partition: int) -> Acknowledged:
        """Return what is acknowledged of a partition of the old topic."""
        return self._known.get(partition, Acknowledged())

    def acknowledged(self, record: ConsumerRecord) -> Sequence[Outgoing]:
        """Return what becomes of a record if it is acknowledged; else nothing."""
        received = receive(record, partitions=self._before)
        if not self._covers(record) or not isinstance(received, ReceivedCommand):
            return ()
        if _is_relayed(received.command):
            return ()
        return (self._outgoing(received.command, received.payload),)

    def waiting(self, record: ConsumerRecord) -> Sequence[Outgoing]:
        """Return what becomes of a record if it waits; else nothing."""
        received = receive(record, partitions=self._before)
        if self._covers(record) or not isinstance(received, ReceivedCommand):
            return ()
        return self.moved(received.payload)

    def expired(self, partition: int, page: Sequence[tuple[int, bytes]]) -> Expired:
        """Return what becomes of commands that only the index has, by their offsets and JSON."""
        expired = Expired()
        for offset, payload in page:
            command = decode_command(payload)
            if not self.known(partition).covers(offset):
                expired.moved.extend(self.moved(payload))
            elif _is_relayed(command):
                expired.left_behind.append(command.id)
            else:
                expired.kept.append(command.id)
        return expired

    def moved(self, payload: bytes) -> Sequence[Outgoing]:
        """Return what becomes of a command that waits."""
        command = decode_command(payload)
        if isinstance(command, DeliverEvent) and command.partition is not None:
            everywhere = relayed_commands(command, range(self._count))
            return [self._outgoing(each, encode_command(each)) for each in everywhere]
        return (self._outgoing(command, payload),)

    def _covers(self, record: ConsumerRecord) -> bool:
        return self.known(record.partition).covers(record.offset)

    def _outgoing(self, command: AnyCommand, payload: bytes) -> Outgoing:
        return Outgoing(
            topic=self._topic,
            partition=partition_of_command(command, self._count),
            key=key_of(command),
            value=payload,
        )


def _is_relayed(command: AnyCommand) -> bool:
    return isinstance(command, DeliverEvent) and command.partition is not None
