"""Whatever order the log gives to owners' records, one owner per epoch counts, without holes."""

from __future__ import annotations

from collections import defaultdict

from hypothesis import given
from hypothesis import strategies as st

from orchx.domain.events import CancelRequested, Record, WorkflowActivated
from orchx.domain.lineage import AcceptedRecords

OTHER = CancelRequested(command_id="c")


@st.composite
def logs(draw: st.DrawFn) -> list[Record]:
    """Owners that claim on what they last saw, write on when fenced, and repeat appends."""
    log: list[Record] = []
    mine: dict[str, list[Record]] = defaultdict(list)  # since each owner's last claim
    for _ in range(draw(st.integers(0, 40))):
        owner = draw(st.sampled_from(["a", "b", "c"]))
        step = draw(st.sampled_from(["claim", "stale-claim", "write", "write", "write", "repeat"]))
        if step == "repeat" and mine[owner]:
            log += mine[owner][-draw(st.integers(1, 3)) :]
            continue
        if step in {"claim", "stale-claim"} or not mine[owner]:
            seen = log if step == "claim" else log[: draw(st.integers(0, len(log)))]
            epoch = max((record.epoch for record in seen), default=0) + 1
            if mine[owner] and mine[owner][0].epoch == epoch:
                continue  # an owner does not claim the same epoch twice
            if any(record.epoch == epoch and record.owner == owner for record in log):
                continue
            mine[owner] = []
            made = Record(
                workflow_id="w",
                epoch=epoch,
                owner=owner,
                seq=0,
                at_ms=0,
                event=WorkflowActivated(),
            )
        else:
            last = mine[owner][-1]
            made = Record(
                workflow_id="w",
                epoch=last.epoch,
                owner=owner,
                seq=last.seq + 1,
                at_ms=0,
                event=OTHER,
            )
        mine[owner].append(made)
        log.append(made)
    return log


@given(logs())
def test_exactly_one_owner_counts_per_epoch(log: list[Record]) -> None:
    reader = AcceptedRecords()
    accepted = list(reader.of(log))
    owners: dict[int, str] = {}
    for record in accepted:
        assert owners.setdefault(record.epoch, record.owner) == record.owner
    # ...and it is the first to claim an epoch above all before it.
    highest, winners = 0, {}
    for record in log:
        if record.seq == 0 and record.epoch > highest:
            highest = record.epoch
            winners[highest] = record.owner
    assert owners == winners
    assert reader.gaps == 0


@given(logs())
def test_what_counts_is_in_order_and_whole(log: list[Record]) -> None:
    accepted = list(AcceptedRecords().of(log))
    epochs = [record.epoch for record in accepted]
    assert epochs == sorted(epochs)
    by_epoch: dict[int, list[int]] = defaultdict(list)
    for record in accepted:
        by_epoch[record.epoch].append(record.seq)
    for seqs in by_epoch.values():
        assert seqs == list(range(len(seqs)))


@given(logs(), st.data())
def test_reading_in_parts_is_reading_whole(log: list[Record], data: st.DataObject) -> None:
    whole = list(AcceptedRecords().of(log))
    cut = data.draw(st.integers(0, len(log)))
    first = AcceptedRecords()
    parts = list(first.of(log[:cut]))
    second = AcceptedRecords.resume(first.epoch, first.owner, max(first.seq, 0))
    parts += second.of(log[cut:])
    assert parts == whole


@given(logs(), st.data())
def test_reading_a_part_twice_changes_nothing(log: list[Record], data: st.DataObject) -> None:
    """A reader whose stored offset is behind its stored lineage sees records again."""
    reader = AcceptedRecords()
    list(reader.of(log))
    before = (reader.epoch, reader.owner, reader.seq)
    again = log[data.draw(st.integers(0, len(log))) :]
    assert not list(reader.of(again))
    assert (reader.epoch, reader.owner, reader.seq) == before


@given(logs(), st.data())
def test_a_lost_record_stops_its_owner(log: list[Record], data: st.DataObject) -> None:
    accepted = list(AcceptedRecords().of(log))
    writes = [record for record in accepted if record.seq > 0]
    if not writes:
        return
    lost = data.draw(st.sampled_from(writes))
    reader = AcceptedRecords()
    kept = list(reader.of(record for record in log if record != lost))
    assert not [r for r in kept if r.epoch == lost.epoch and r.seq >= lost.seq]
    assert [r for r in kept if r.epoch != lost.epoch] == [
        r for r in accepted if r.epoch != lost.epoch
    ]
