"""Several engines on one installation of Kafka share the work, and stand in for each other."""

from __future__ import annotations

import asyncio
import itertools
import re
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import httpx
import pytest
from msgspec.structs import replace

from orchx.client import Client, Workflow
from orchx.domain.events import Record, WorkflowFaulted
from orchx.domain.faults import Fault
from orchx.stores import KafkaStores
from tests.e2e import checker, process_tree
from tests.e2e.conditions import eventually
from tests.e2e.errands import ERRAND_EFFECTS, Errands
from tests.e2e.kafka_servers import KafkaInstallation
from tests.e2e.sandbox_ledger import SandboxLedger
from tests.e2e.server_process import ServerProcess
from tests.e2e.test_kill import Submission

PARTITIONS = 4
SESSION_MS = 6_000
ORPHANS = 500
LATE_WORDS = 20
IN_FLIGHT = 300  # effects, of their 3,000
END_TIMEOUT_S = 150.0
HELD_TIMEOUT_S = 60.0
STEADY_PAUSE_S = 0.2
CHECK_INTERVAL_S = 0.5  # of the balancer's, which takes an engine out after
FALL = 2  # checks that failed one after another

pytestmark = [pytest.mark.slow, pytest.mark.timeout(500)]

_HELD = re.compile(r'orchx_partitions_held{process="dispatcher-(\d+)"} (\d+)')


@pytest.fixture(scope="module")
def engines(
    services_file: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[ServerProcess, ServerProcess]]:
    """Two engines of one installation; the first is up."""
    installation = KafkaInstallation(
        services_file, partitions=PARTITIONS, session_timeout_ms=SESSION_MS
    )
    one, two = (installation.engine(tmp_path_factory.mktemp(name)) for name in ("one", "two"))
    try:
        one.start()
        yield one, two
        for engine in (one, two):
            engine.stop()
    finally:
        for engine in (one, two):
            engine.kill()


def held(engine: ServerProcess) -> int:
    """Return how many partitions an engine says that it serves."""
    text = httpx.get(f"{engine.url}/metrics", timeout=15).text
    counts = [int(count) for pid, count in _HELD.findall(text) if process_tree.is_alive(int(pid))]
    return counts[0] if counts else -1


def test_a_machine_that_stands_still_is_taken_over_from_and_its_late_words_change_nothing(
    engines: tuple[ServerProcess, ServerProcess], ledger: SandboxLedger
) -> None:
    """The second engine has never seen these workflows; the first comes back and writes on."""
    one, two = engines
    ledger.disturb("hr", latency_ms=4_000, seed=1)
    ledger.disturb("it", latency_ms=1_500, seed=2)
    errands = Errands(one, "errand", "orphans")
    Submission(errands, ORPHANS).finish()
    eventually(lambda: ledger.read() >= IN_FLIGHT, "work in flight", timeout_s=END_TIMEOUT_S)
    frozen = process_tree.freeze_session(one.session)
    frozen_s = time.monotonic()
    try:
        unfinished = sum(
            not story.state.terminal
            for story in checker.stories(one, errands.workflow_ids).values()
        )
        ledger.disturb("hr", latency_ms=150, latency_jitter_ms=100, error_rate=0.05, seed=1)
        ledger.disturb("it", latency_ms=150, lose_response_rate=0.03, seed=2)
        two.start()
        taken_over_s = time.monotonic() - frozen_s
        successor = Errands(two, "errand", "orphans")
        successor.workflow_ids = errands.workflow_ids
        ends = successor.await_ends(END_TIMEOUT_S)
        ended_s = time.monotonic() - frozen_s
    finally:
        for pid in frozen:
            process_tree.thaw(pid)
    eventually(lambda: 0 < held(one) < PARTITIONS, "the first to share", timeout_s=HELD_TIMEOUT_S)
    # Of its own accord it may notice before it writes: what it could have written, is written.
    written = asyncio.run(_write_as_former_owners(one, errands.workflow_ids))
    late = _fenced(checker.stories(two, errands.workflow_ids))
    missing, doubled = ledger.check(errands.workflow_ids, ERRAND_EFFECTS)
    print(
        f"\nfrozen: unfinished={unfinished} taken_over_s={taken_over_s:.1f} "
        f"all_ended_s={ended_s:.1f} ends={dict(Counter(ends.values()))} "
        f"late_records={late} lost={missing} doubled={doubled}"
    )
    assert unfinished == ORPHANS
    assert late >= written == LATE_WORDS
    assert Counter(ends.values()) == {"completed": ORPHANS}
    assert (missing, doubled) == (0, 0)
    assert checker.check(two, errands.workflow_ids) == []


def _fenced(stories: dict[str, checker.Story]) -> int:
    """Return how many records of these workflows count for nothing."""
    return sum(
        count
        for story in stories.values()
        for verdict, count in story.verdicts.items()
        if verdict != "accepted"
    )


async def _write_as_former_owners(engine: ServerProcess, workflow_ids: Sequence[str]) -> int:
    """Have the owners before the last say of some workflows that they have failed; count them."""
    stores = KafkaStores(engine.settings)
    log = stores.event_log()
    try:
        late: list[Record] = []
        for workflow_id in workflow_ids:
            records = await log.read(workflow_id)
            last_epoch = max(record.epoch for record in records)
            former = [record for record in records if record.epoch < last_epoch][-1:]
            failed = WorkflowFaulted(error=Fault(type="late", status=500, title="too late"))
            late += [
                replace(one, seq=one.seq + 1, at_ms=time.time_ns() // 10**6, event=failed)
                for one in former
            ]
            if len(late) == LATE_WORDS:
                break
        await log.append(late)
        return len(late)
    finally:
        await log.close()
        await stores.close()


def test_what_one_engine_was_asked_another_knows_and_tells(
    engines: tuple[ServerProcess, ServerProcess], ledger: SandboxLedger
) -> None:
    one, two = engines
    _both_serve(one, two)
    with one.client() as client, two.client() as other:
        for number in range(2 * PARTITIONS):  # some of them in partitions of either
            request = {
                "definition": {"namespace": "e2e", "name": "errand"},
                "input": {"name": f"shared-{number}"},
            }
            ended = client.submit(request, key=f"shared-{number}", wait_s=30).workflow
            assert ended is not None
            _is_told_the_same(other, ended)
            again = other.submit(request, key=f"shared-{number}")
            assert (again.id, again.replayed) == (ended.id, True)


def _is_told_the_same(client: Client, ended: Workflow) -> None:
    """See that another engine tells the same of a workflow, as soon as it has heard of its end."""

    def told() -> bool:
        known = client.show(ended.id)
        return (known.status, known.output) == ("completed", ended.output)

    eventually(told, f"the other engine to know of {ended.id}")


def test_a_rolling_restart_fails_no_request(
    engines: tuple[ServerProcess, ServerProcess], ledger: SandboxLedger
) -> None:
    one, two = engines
    _both_serve(one, two)
    steady = Steady((one, two))
    for engine in (one, two):
        engine.stop()
        _both_serve(one, two)
    ids = steady.finish()
    ends = Errands(two, "errand", Steady.LABEL)
    ends.workflow_ids = ids
    statuses = Counter(ends.await_ends(END_TIMEOUT_S).values())
    missing, doubled = ledger.check(ids, ERRAND_EFFECTS)
    print(
        f"\nrolling restart: requests={len(ids)} ends={dict(statuses)} turned_over={steady.moved} "
        f"lost={missing} doubled={doubled}"
    )
    assert statuses == {"completed": len(ids)}
    assert (missing, doubled) == (0, 0)
    assert checker.check(two, ids) == []


def _both_serve(one: ServerProcess, two: ServerProcess) -> None:
    for engine in (one, two):
        if not engine.runs:
            engine.start()
    eventually(
        lambda: min(held(one), held(two)) > 0 and held(one) + held(two) == PARTITIONS,
        "both engines to have their share",
        timeout_s=HELD_TIMEOUT_S,
    )


class Steady(threading.Thread):
    """Submits one request after another, to an engine that is ready, as a balancer does.

    Only a connection that cannot be made, or breaks off, sends it to the other engine; any
    other answer than an acceptance is an error, and so is a moment in which none is ready.
    """

    LABEL = "steady"

    def __init__(self, engines: Sequence[ServerProcess]) -> None:
        super().__init__(daemon=True)
        self.moved = 0
        self._engines = engines
        self._failed = dict.fromkeys(engines, 0)  # checks, one after another
        self._looked_s = float("-inf")
        self._ids: list[str] = []
        self._stopped = threading.Event()
        self._error: BaseException | None = None
        self.start()

    def run(self) -> None:
        try:
            with httpx.Client(timeout=30) as http:
                for number in itertools.count():
                    if self._stopped.wait(STEADY_PAUSE_S):
                        break
                    self._ids.append(self._submit(http, number))
        except BaseException as error:
            self._error = error

    def finish(self) -> list[str]:
        """Stop; return the ids of what was accepted."""
        self._stopped.set()
        self.join(END_TIMEOUT_S)
        if self._error is not None:
            raise self._error
        return self._ids

    def _submit(self, http: httpx.Client, number: int) -> str:
        request = {
            "definition": {"namespace": "e2e", "name": "errand"},
            "input": {"name": f"{self.LABEL}-{number}"},
            "labels": {"crowd": self.LABEL},
        }
        key = {"Idempotency-Key": f"{self.LABEL}-{number}"}
        now_s = time.monotonic()
        if now_s - self._looked_s > CHECK_INTERVAL_S:
            self._looked_s = now_s
            for engine in self._engines:
                self._failed[engine] = 0 if engine.is_ready() else self._failed[engine] + 1
        ready = [engine for engine in self._engines if self._failed[engine] < FALL]
        assert ready, "no engine is ready"
        first = number % len(ready)
        for engine in (*ready[first:], *ready[:first]):
            try:
                answer = http.post(f"{engine.url}/v1/requests", json=request, headers=key)
            except httpx.TransportError:
                self.moved += 1
                continue
            assert answer.status_code == 202, f"request {number}: {answer.text}"
            return str(answer.json()["id"])
        raise AssertionError(f"neither engine could be reached for request {number}")
