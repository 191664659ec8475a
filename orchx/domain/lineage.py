"""Which records of a workflow count: the one rule that fences owners (DESIGN 5).

Several owners may write to one workflow, because nothing stops two processes from
running at once. The log's order decides between them: the first activation with a
given epoch makes its owner the current one, and only records of the current (epoch,
owner), numbered without a gap, count. Every reader applies the rule with this class:
owners, the projector, the reporter, the history API and the checker.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Literal, TypeAlias

from orchx.domain.events import Record, WorkflowActivated

Verdict: TypeAlias = Literal["accepted", "void", "fenced", "duplicate", "gap"]
"""What becomes of a record.

accepted: it counts. void: an activation that came too late for its epoch. fenced: its
(epoch, owner) is not the current one. duplicate: it has counted already. gap: the record
before it is missing, so it cannot be applied: a defect of whoever wrote the log.
"""


class AcceptedRecords:
    """Judges the records of one workflow, fed in log order.

    It remembers three values however long the history is, so that a reader can stop, store
    `epoch`, `owner` and `seq`, and `resume` with them later. `gaps` counts the defects seen
    by this instance.
    """

    __slots__ = ("epoch", "gaps", "owner", "seq")

    def __init__(self) -> None:
        self.epoch = 0
        self.owner = ""
        self.seq = -1
        self.gaps = 0

    @classmethod
    def resume(cls, epoch: int, owner: str, seq: int) -> AcceptedRecords:
        """Return a reader that goes on after the record with these three, the last that counted.

        Epoch 0 (no owner yet) stands for a workflow without a history.
        """
        reader = cls()
        if epoch > 0:
            reader.epoch, reader.owner, reader.seq = epoch, owner, seq
        return reader

    def judge(self, record: Record) -> Verdict:
        """Return what becomes of the next record, and remember it if it counts."""
        if record.epoch == self.epoch and record.owner == self.owner and self.epoch > 0:
            return self._judge_current(record)
        if type(record.event) is not WorkflowActivated:
            return "fenced"
        if record.epoch <= self.epoch:
            return "void"
        if record.seq != 0:
            self.gaps += 1
            return "gap"
        self.epoch, self.owner, self.seq = record.epoch, record.owner, 0
        return "accepted"

    def accepts(self, record: Record) -> bool:
        """Return whether the next record counts; the same as `judge(record) == "accepted"`."""
        return self.judge(record) == "accepted"

    def of(self, records: Iterable[Record]) -> Iterator[Record]:
        """Yield those of the next records that count."""
        return (record for record in records if self.judge(record) == "accepted")

    def _judge_current(self, record: Record) -> Verdict:
        following = self.seq + 1
        if record.seq < following:
            return "duplicate"
        if type(record.event) is WorkflowActivated:
            return "void"  # an owner activates once, at seq 0
        if record.seq > following:
            self.gaps += 1
            return "gap"
        self.seq = following
        return "accepted"
