"""`kill -9` of each kind of process in the middle of 200 workflows: nothing lost or doubled."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter

import pytest

from orchx.sandbox.process import SandboxProcess
from tests.e2e import checker, process_tree
from tests.e2e.conditions import eventually
from tests.e2e.errands import ERRAND_EFFECTS, SUM_EFFECTS, Errands
from tests.e2e.sandbox_ledger import SandboxLedger
from tests.e2e.server_process import ServerProcess

WORKFLOWS = 200
HELD_BACK = 40  # submitted while the process dies
ALONE = 10  # of them want an owner to themselves, where that is what dies
EARLIEST, LATEST = 0.2, 0.6  # of all effects: when it dies
END_TIMEOUT_S = 60.0

ACTORS = (
    "dispatcher",
    "owner-shared-0",
    "owner-dedicated-0",
    "pool-0",
    "projector",
    "reporter",
)

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]


class Submission(threading.Thread):
    """Submits beside the test, from now on, and hands on what went wrong."""

    def __init__(self, errands: Errands, count: int) -> None:
        super().__init__(daemon=True)
        self._errands = errands
        self._count = count
        self._error: BaseException | None = None
        self.start()

    def run(self) -> None:
        try:
            asyncio.run(self._errands.submit(self._count))
        except BaseException as error:
            self._error = error

    def finish(self) -> None:
        self.join(END_TIMEOUT_S)
        assert not self.is_alive(), "the client still tries to submit"
        if self._error is not None:
            raise self._error


class Disaster:
    """One crowd of workflows, one killed process, and what has to hold afterwards.

    `crowd` is part of every key: the services know what they did for the same key before.
    """

    def __init__(
        self, server: ServerProcess, ledger: SandboxLedger, kind: str, crowd: str = "kill"
    ) -> None:
        self.server = server
        self.ledger = ledger
        self.kind = kind
        self.effects = SUM_EFFECTS if kind == "cpu-worker" else ERRAND_EFFECTS
        name = "sum" if kind == "cpu-worker" else "errand"
        isolation = "dedicated" if kind == "owner-dedicated-0" else "auto"
        self.errands = Errands(server, name, f"{crowd}-{kind}", {"isolation": "auto"})
        self.alone = Errands(server, name, f"{crowd}-{kind}-alone", {"isolation": isolation})
        self.killed_s = 0.0

    def run_until_in_flight(self) -> list[Submission]:
        """Submit, wait until work is in flight, then begin with the last."""
        self.ledger.disturb("hr", latency_ms=150, latency_jitter_ms=100, error_rate=0.05, seed=1)
        self.ledger.disturb("it", latency_ms=150, lose_response_rate=0.03, seed=2)
        self.ledger.disturb("mail", latency_ms=100)
        self.ledger.disturb("laptops-express", latency_ms=200)
        total = WORKFLOWS * len(self.effects)
        first = [
            Submission(self.alone, ALONE),
            Submission(self.errands, WORKFLOWS - ALONE - HELD_BACK),
        ]
        eventually(lambda: self.ledger.read() >= EARLIEST * total, "work in flight")
        last = Submission(self.errands, HELD_BACK)
        assert self.ledger.read() <= LATEST * total, "it was over too soon"
        return [*first, last]

    def strike(self, pid: int) -> None:
        """Kill one process."""
        self.killed_s = time.monotonic()
        process_tree.kill(pid)

    def has_healed(self, submissions: list[Submission], *, back_s: float | None = None) -> None:
        """Wait for every end, then compare ledger, log, projection and API."""
        for submission in submissions:
            submission.finish()
        ends = {**self.alone.await_ends(END_TIMEOUT_S), **self.errands.await_ends(END_TIMEOUT_S)}
        ended_s = time.monotonic() - self.killed_s
        ids = [*self.alone.workflow_ids, *self.errands.workflow_ids]
        missing, doubled = self.ledger.check(ids, self.effects)
        statuses = Counter(ends.values())
        back = "" if back_s is None else f" back_s={back_s:.1f}"
        print(
            f"\nkill {self.kind}:{back} all_ended_s={ended_s:.1f} ends={dict(statuses)} "
            f"lost={missing} doubled={doubled}"
        )
        assert len(set(ids)) == WORKFLOWS, "a key stood for two workflows, or two keys for one"
        assert ends.keys() == set(ids), "workflows that nobody asked for"
        assert statuses == {"completed": WORKFLOWS}
        assert (missing, doubled) == (0, 0)
        assert checker.check(self.server, ids) == []

    def freeze_beyond_the_lease(self, name: str) -> None:
        """Freeze an owner until another has taken over, then let it go on beside that one."""
        before = checker.known_workflows(self.server)
        frozen = self.server.actor_pid(name)
        submissions = self.run_until_in_flight()
        self.killed_s = time.monotonic()
        process_tree.freeze(frozen)
        try:
            eventually(
                lambda: checker.is_any_taken_over(self.server, before),
                "an owner that takes over",
                timeout_s=END_TIMEOUT_S,
                poll_s=0.5,
            )
        finally:
            process_tree.thaw(frozen)
        self.has_healed(submissions, back_s=time.monotonic() - self.killed_s)

    def back(self, name: str, killed: int) -> float:
        """Wait for another process in the place of the killed one; return after how long."""

        def replaced() -> bool:
            pid = self.server.reporting().get(name)
            return pid is not None and pid != killed

        eventually(replaced, f"another {name}", timeout_s=END_TIMEOUT_S)
        self.server.pids.pop(name, None)
        return time.monotonic() - self.killed_s


@pytest.mark.parametrize("kind", ACTORS)
def test_an_actors_death_loses_and_doubles_nothing(
    orchx_server: ServerProcess, ledger: SandboxLedger, kind: str
) -> None:
    disaster = Disaster(orchx_server, ledger, kind)
    killed = orchx_server.actor_pid(kind)
    submissions = disaster.run_until_in_flight()
    disaster.strike(killed)
    back_s = disaster.back(kind, killed)
    disaster.has_healed(submissions, back_s=back_s)


def test_an_ingestion_replicas_death_loses_and_doubles_nothing(
    orchx_server: ServerProcess, ledger: SandboxLedger
) -> None:
    disaster = Disaster(orchx_server, ledger, "ingestion")
    (killed,) = orchx_server.pids_titled("ray::ServeReplica:orchx")
    submissions = disaster.run_until_in_flight()
    disaster.strike(killed)
    eventually(orchx_server.is_ready, "requests being taken again", timeout_s=END_TIMEOUT_S)
    disaster.has_healed(submissions, back_s=time.monotonic() - disaster.killed_s)


def test_a_cpu_workers_death_loses_and_doubles_nothing(
    orchx_server: ServerProcess, ledger: SandboxLedger
) -> None:
    disaster = Disaster(orchx_server, ledger, "cpu-worker")
    submissions = disaster.run_until_in_flight()
    workers = eventually(lambda: orchx_server.pids_titled("ray::run_cpu_function"), "a worker")
    disaster.strike(workers[0])
    disaster.has_healed(submissions)


def test_the_death_of_everything_loses_and_doubles_nothing(
    orchx_server: ServerProcess, ledger: SandboxLedger
) -> None:
    disaster = Disaster(orchx_server, ledger, "everything")
    submissions = disaster.run_until_in_flight()
    disaster.killed_s = time.monotonic()
    orchx_server.kill()
    orchx_server.start()
    disaster.has_healed(submissions, back_s=time.monotonic() - disaster.killed_s)


def test_an_owner_that_was_frozen_beyond_its_lease_is_fenced(
    orchx_server: ServerProcess, ledger: SandboxLedger
) -> None:
    """It comes back and finds that others have taken over: two live owners at once."""
    disaster = Disaster(orchx_server, ledger, "frozen")
    disaster.freeze_beyond_the_lease("owner-shared-0")


def test_an_owner_that_was_frozen_inside_a_commit_is_replaced(
    orchx_server: ServerProcess, ledger: SandboxLedger
) -> None:
    """It keeps the log's write lock: nobody can append until it is gone."""
    disaster = Disaster(orchx_server, ledger, "frozen-in-commit")
    frozen = orchx_server.actor_pid("owner-shared-0")
    submissions = disaster.run_until_in_flight()
    lock = orchx_server.data / "events.db.lock"

    def is_frozen_with_the_lock() -> bool:
        process_tree.freeze(frozen)
        if process_tree.holds_lock(frozen, lock):
            return True
        process_tree.thaw(frozen)
        return False

    try:
        eventually(is_frozen_with_the_lock, "a commit to stop in the middle of")
        disaster.killed_s = time.monotonic()
        back_s = disaster.back("owner-shared-0", frozen)
    finally:
        process_tree.thaw(frozen)
    disaster.has_healed(submissions, back_s=back_s)


def test_a_server_whose_main_process_died_is_started_again(
    orchx_server: ServerProcess, ledger: SandboxLedger
) -> None:
    """Ray's processes end by themselves then, each at its own time: the port must be free."""
    disaster = Disaster(orchx_server, ledger, "main")
    submissions = disaster.run_until_in_flight()
    disaster.killed_s = time.monotonic()
    orchx_server.restart_after_main_death()
    disaster.has_healed(submissions, back_s=time.monotonic() - disaster.killed_s)


def test_webhooks_of_killed_workflows_arrive(
    orchx_server: ServerProcess, sandbox: SandboxProcess, ledger: SandboxLedger
) -> None:
    """The reporter dies while outcomes are on their way: each arrives, under one id."""
    callback = {"url": f"{sandbox.url}/inbox/crm"}
    errands = Errands(orchx_server, "errand", "webhooks", {"callback": callback})
    ledger.disturb("inbox", latency_ms=100)
    asyncio.run(errands.submit(40))
    eventually(lambda: len(ledger.deliveries("crm")) >= 5, "the first webhooks")
    process_tree.kill(orchx_server.actor_pid("reporter"))
    ends = errands.await_ends(END_TIMEOUT_S)

    def told() -> bool:
        return {d["body"]["workflowid"] for d in ledger.deliveries("crm")} >= ends.keys()

    eventually(told, "a webhook for every outcome", timeout_s=END_TIMEOUT_S)
    assert len({d["webhook_id"] for d in ledger.deliveries("crm")}) == len(ends)
