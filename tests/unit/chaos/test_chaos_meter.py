from collections import Counter

from tests.chaos.load import Acceptance, Load, Request
from tests.chaos.meter import SETTLED_S, Meter
from tests.e2e.sandbox_ledger import SandboxLedger

NOWHERE = "http://127.0.0.1:1"


def a_meter(*samples: tuple[float, int]) -> Meter:
    load = Load(NOWHERE, "key", "crowd", definition=("n", "d"), rate_per_s=1)
    meter = Meter(load, SandboxLedger(NOWHERE), last_step="mail.send-message")
    meter.samples = list(samples)
    return meter


def test_a_backlog_is_gone_when_it_stays_gone() -> None:
    meter = a_meter((10, 3), (11, 90), (12, 40), (13, 80), (14, 20), (15, 4), (14 + SETTLED_S, 5))

    assert meter.gone_at_s(10, level=50) == 14
    assert meter.most(10) == 90
    assert meter.usual(15) == 4.5


def test_a_backlog_that_came_back_or_only_just_went_is_not_gone() -> None:
    assert a_meter((10, 3), (20, 90)).gone_at_s(10, level=50) is None
    assert a_meter((10, 90), (20, 3), (20 + SETTLED_S / 2, 3)).gone_at_s(10, level=50) is None
    assert a_meter().gone_at_s(10, level=50) is None


def test_what_was_before_the_healing_does_not_count() -> None:
    assert a_meter((10, 3), (20, 90), (30, 3)).gone_at_s(5, level=50) is None
    assert a_meter((10, 3), (20, 90), (30, 3), (40, 3)).gone_at_s(25, level=50) == 30


def test_the_course_of_a_backlog_is_told_every_few_seconds() -> None:
    samples = [(10 + number / 2, number) for number in range(30)]

    assert a_meter(*samples).course(11) == [2, 12, 22]


def test_the_steps_that_end_a_workflow_are_counted_once_each() -> None:
    meter = a_meter()
    load = meter._load
    load.requests = [Request(key=str(number), due_s=0) for number in range(3)]
    meter._ledger.read = lambda: 0  # type: ignore[method-assign]
    meter._ledger.effects = [
        {"operation": "mail.send-message", "workflow": "a"},
        {"operation": "mail.send-message", "workflow": "a"},
        {"operation": "hr.create-employee", "workflow": "b"},
    ]

    assert meter.look() == 2
    assert meter.look() == 2


def test_refusals_are_told_apart_from_answers_that_say_give_up() -> None:
    requests = [
        Request(key="a", due_s=10, accepted_s=10.1, workflow_id="1"),
        Request(key="b", due_s=10, accepted_s=14, workflow_id="2", refusals=Counter({"503": 2})),
        Request(key="c", due_s=10, refusals=Counter({"silence": 1, "500": 1, "409": 2})),
    ]

    requests[1].reasons["it starts"] = 2
    requests[2].reasons["it starts"] = 1

    acceptance = Acceptance.of(requests)

    assert acceptance.requests == 3
    assert acceptance.reasons == {"it starts": 3}
    assert acceptance.refused_then_accepted == 1
    assert acceptance.never_accepted == 1
    assert acceptance.longest_refusal_s == 4
    assert acceptance.refusals == {"503": 2, "silence": 1, "500": 1, "409": 2}
    assert acceptance.wrong_answers == {"500": 1, "409": 2}
