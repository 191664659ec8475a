"""The fencing rule, case by case; tests/property/test_lineage.py shuffles owners at random."""

from __future__ import annotations

import sys

import pytest

from orchx.domain.events import AnyEvent, CancelRequested, Record, WorkflowActivated
from orchx.domain.lineage import AcceptedRecords

ACTIVATED = WorkflowActivated()
OTHER = CancelRequested(command_id="c")


def record(epoch: int, owner: str, seq: int, event: AnyEvent = OTHER) -> Record:
    return Record(workflow_id="w", epoch=epoch, owner=owner, seq=seq, at_ms=0, event=event)


def activation(epoch: int, owner: str) -> Record:
    return record(epoch, owner, 0, ACTIVATED)


def test_the_first_activation_of_an_epoch_wins() -> None:
    reader = AcceptedRecords()
    assert reader.judge(activation(1, "a")) == "accepted"
    assert reader.judge(activation(1, "b")) == "void"
    assert reader.judge(record(1, "b", 1)) == "fenced"
    assert reader.judge(record(1, "a", 1)) == "accepted"


def test_a_higher_epoch_fences_the_owner_before() -> None:
    reader = AcceptedRecords()
    verdicts = [
        reader.judge(each)
        for each in (
            activation(1, "a"),
            record(1, "a", 1),
            activation(2, "b"),
            record(1, "a", 2),
            record(2, "b", 1),
        )
    ]
    assert verdicts == ["accepted", "accepted", "accepted", "fenced", "accepted"]


def test_epochs_may_skip_but_never_fall() -> None:
    reader = AcceptedRecords()
    assert reader.accepts(activation(5, "a"))
    assert reader.judge(activation(4, "b")) == "void"
    assert reader.accepts(activation(9, "b"))


@pytest.mark.parametrize("epoch", [0, -1])
def test_epochs_begin_at_one(epoch: int) -> None:
    assert AcceptedRecords().judge(activation(epoch, "a")) == "void"
    assert AcceptedRecords().judge(activation(epoch, "")) == "void"


def test_before_the_first_activation_nothing_counts() -> None:
    assert AcceptedRecords().judge(record(1, "a", 0)) == "fenced"
    assert AcceptedRecords().judge(record(0, "", 0)) == "fenced"


def test_an_owner_s_name_counts_only_in_the_epoch_that_it_won() -> None:
    reader = AcceptedRecords()
    list(reader.of([activation(1, "a"), activation(2, "b"), activation(2, "a")]))
    assert reader.judge(record(2, "a", 1)) == "fenced"
    assert reader.judge(record(1, "a", 1)) == "fenced"


def test_a_repeated_append_is_a_duplicate() -> None:
    reader = AcceptedRecords()
    once = [activation(1, "a"), record(1, "a", 1), record(1, "a", 2)]
    verdicts = [reader.judge(each) for each in [*once, *once, record(1, "a", 3)]]
    assert verdicts == ["accepted"] * 3 + ["duplicate"] * 3 + ["accepted"]


def test_a_gap_is_a_defect_and_is_not_applied() -> None:
    reader = AcceptedRecords()
    assert reader.accepts(activation(1, "a"))
    assert reader.judge(record(1, "a", 2)) == "gap"
    assert reader.judge(record(1, "a", 3)) == "gap"
    assert reader.gaps == 2
    assert reader.judge(record(1, "a", 1)) == "accepted"
    assert reader.judge(record(1, "a", 2)) == "accepted"


def test_an_activation_stands_at_seq_0() -> None:
    reader = AcceptedRecords()
    assert reader.judge(record(1, "a", 1, ACTIVATED)) == "gap"
    assert reader.epoch == 0
    assert reader.accepts(activation(1, "a"))
    assert reader.judge(record(1, "a", 1, ACTIVATED)) == "void"
    assert reader.seq == 0


def test_it_resumes_where_it_stopped() -> None:
    reader = AcceptedRecords.resume(3, "c", 7)
    assert reader.judge(record(3, "c", 7)) == "duplicate"
    assert reader.judge(activation(3, "d")) == "void"
    assert reader.judge(record(3, "c", 8)) == "accepted"
    assert (reader.epoch, reader.owner, reader.seq) == (3, "c", 8)


def test_it_resumes_from_nothing() -> None:
    reader = AcceptedRecords.resume(0, "", 0)
    assert reader.accepts(activation(1, "a"))


def test_of_yields_what_counts() -> None:
    mixed = [activation(1, "a"), activation(1, "b"), record(1, "b", 1), record(1, "a", 1)]
    assert list(AcceptedRecords().of(mixed)) == [mixed[0], mixed[3]]


def test_its_memory_does_not_grow_with_the_history() -> None:
    reader = AcceptedRecords()
    reader.accepts(activation(1, "a"))
    before = sys.getsizeof(reader)
    for seq in range(1, 10_000):
        assert reader.accepts(record(1, "a", seq))
    assert sys.getsizeof(reader) == before
    assert not hasattr(reader, "__dict__")
