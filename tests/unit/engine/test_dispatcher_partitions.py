"""A Dispatcher that serves some partitions, and what it leaves to the other engines."""

from __future__ import annotations

import asyncio

from orchx.domain import messages as m
from orchx.domain.keys import relayed_event_command_id
from orchx.errors import DriverError
from tests.unit.engine.dispatching import SWEEP_S, Desk, cancel, event, start, summary


def told(desk: Desk, owner: str = "owner-1") -> list[str]:
    return desk.owners[owner].got


async def desk_with(*held: int, partitions: int = 3) -> Desk:
    desk = Desk(met=False, partitions=partitions)
    await desk.supervision.take(held)
    await desk.pass_s()
    return desk


async def test_what_is_of_another_engine_is_left_to_it() -> None:
    desk = await desk_with(0, 2)
    await desk.submit(start("wf-0"), start("wf-1"), start("wf-2"))
    assert told(desk) == ["wf-0", "wf-2"]
    assert await desk.pending() == ["wf-0", "wf-1", "wf-2"]


async def test_of_what_the_projection_knows_it_takes_up_its_own() -> None:
    desk = Desk(met=False, partitions=3)
    await desk.project(summary("wf-0"), summary("wf-1"), summary("wf-2", passivated=True))
    await desk.supervision.take([1, 2])
    await desk.pass_s()
    assert told(desk) == ["wf-1"]
    assert sorted(desk.roster.entries) == ["wf-1", "wf-2"]
    assert desk.state.served == [1, 2]


async def test_an_audit_takes_up_nothing_of_another_engine() -> None:
    desk = await desk_with(1)
    await desk.project(summary("wf-0"), summary("wf-1"))
    await desk.supervision.audit()
    await desk.supervision.audit()
    await desk.pass_s()
    assert told(desk) == ["wf-1"]


async def test_what_is_given_up_is_off_the_books_and_let_go_by_its_owners() -> None:
    desk = await desk_with(0, 1)
    await desk.submit(start("wf-0"), start("wf-1"), cancel("c", "wf-1"))
    await desk.supervision.give_up([1])
    assert sorted(desk.roster.entries) == ["wf-0"]
    assert desk.owners["owner-1"].released == [["wf-1"]]
    assert desk.state.served == [0]
    assert not desk.dispatcher.knows("wf-1")
    assert not desk.dispatcher.knows("c")
    await desk.submit(start("wf-4"))
    assert told(desk) == ["wf-0", "wf-1", "wf-1"]  # as before


async def test_an_owner_out_of_reach_does_not_hold_a_hand_over_up() -> None:
    desk = await desk_with(0)
    await desk.submit(start("wf-0"))
    desk.owners["owner-1"].away = True
    await desk.supervision.give_up([0])
    assert desk.roster.entries == {}


async def test_what_waits_for_a_place_is_given_up_too() -> None:
    desk = Desk(met=False, partitions=2, running_limit=1)
    await desk.supervision.take([0, 1])
    await desk.submit(start("wf-0"), start("wf-1"))
    assert desk.dispatcher.load().by_tenant == {"acme": 1}
    await desk.supervision.give_up([1])
    assert (desk.dispatcher.load().waiting, desk.dispatcher.load().by_tenant) == (0, {})
    desk.roster.remove("wf-0")
    await desk.pass_s()
    assert (told(desk), desk.roster.waiting) == (["wf-0"], 0)


async def test_a_sleeper_of_what_is_given_up_and_taken_again_is_woken_once() -> None:
    desk = await desk_with(0)
    due_at_ms = desk.clock.now_ms() + 60_000
    await desk.project(summary("wf-0", passivated=True, due_at_ms=due_at_ms))
    for _ in range(3):
        await desk.supervision.give_up([0])
        await desk.supervision.take([0])
    assert len(desk.roster._due) == 1
    await desk.pass_s(60)
    assert told(desk) == ["wf-0"]


async def test_a_sweep_has_that_projected_which_is_being_taken() -> None:
    desk = await desk_with(0)
    desk.state.hangs = True
    taking = desk.begin(desk.supervision.take([2]))
    await desk.pass_s()
    desk.state.served = []  # the state service begins anew
    await desk.supervision.sweep()
    assert desk.state.served == [0, 2]
    taking.cancel()
    await desk.supervision.give_up([2])
    await desk.supervision.sweep()
    assert desk.state.served == [0]


async def test_an_audit_leaves_alone_what_is_being_taken() -> None:
    desk = await desk_with(0)
    await desk.project(summary("wf-2"))
    desk.owners["owner-1"].holds.add("wf-2")  # as the owner will say once it is asked
    answer = asyncio.Event()
    desk.owners["owner-1"].answers = answer
    taking = desk.begin(desk.supervision.take([2]))
    await desk.pass_s()
    desk.roster.rescue(desk.dispatcher.holds)
    answer.set()
    await taking
    await desk.pass_s()
    assert (desk.owner_of("wf-2"), told(desk)) == ("owner-1", [])


async def test_acknowledgements_of_what_is_given_up_are_with_the_queue() -> None:
    desk = await desk_with(0)
    await desk.submit(start("wf-0"))
    desk.dispatcher.acknowledge(["wf-0"])
    await desk.supervision.give_up([0])
    assert await desk.pending() == []


async def test_an_event_for_all_reaches_listeners_here_and_is_relayed_to_the_others() -> None:
    desk = await desk_with(0, 1)
    desk.dispatcher.subscriptions.add("wf-1", ["news"])
    await desk.submit(event("e", kind="news"))
    commands = {c.id: c for c in desk.queue.commands()}
    addressed = [c for c in commands.values() if c.workflow_id == "wf-1"]
    relayed = commands[relayed_event_command_id("/test", "e", 2)]
    assert len(addressed) == 1
    assert isinstance(relayed, m.DeliverEvent)
    assert (relayed.partition, relayed.workflow_id) == (2, "")
    assert sum(isinstance(c, m.DeliverEvent) and not c.workflow_id for c in commands.values()) == 2


async def test_a_relayed_event_goes_to_those_who_listen_in_its_partition_and_no_further() -> None:
    desk = await desk_with(0, 2)
    desk.dispatcher.subscriptions.add("wf-0", ["news"])
    desk.dispatcher.subscriptions.add("wf-2", ["news"])
    broadcast = event("e", kind="news")
    relayed = m.DeliverEvent(
        id="relayed",
        workflow_id="",
        created_at_ms=broadcast.created_at_ms,
        event=broadcast.event,
        partition=2,
    )
    await desk.submit(relayed)
    await desk.pass_s(1.0)
    assert [c.workflow_id for c in desk.queue.commands()] == ["", "wf-2"]
    assert "relayed" not in await desk.pending()


async def test_an_event_is_relayed_to_a_partition_that_went_while_it_was_handed_out() -> None:
    desk = await desk_with(0, 1)
    desk.dispatcher.subscriptions.add("wf-0", ["news"])
    put = desk.queue.put

    async def interrupted(commands: list[m.AnyCommand]) -> object:
        if desk.dispatcher.held.get(1) == 2:
            desk.dispatcher.leave([1])
            desk.dispatcher.serve([1])  # back, but who listens there is not known any more
        return await put(commands)

    await put([broadcast := event("e", kind="news")])
    desk.queue.put = interrupted  # type: ignore[method-assign,assignment]
    desk.dispatcher.offer([broadcast])
    await desk.pass_s(1.0)
    partitions = [c.partition for c in desk.queue.commands() if isinstance(c, m.DeliverEvent)]
    assert sorted(p for p in partitions if p is not None) == [1, 2]


async def test_what_other_engines_ingestion_has_put_is_found() -> None:
    desk = await desk_with(1)

    class Arriving:
        def __init__(self) -> None:
            self.asked: list[int] = []

        async def __call__(self, *, after_position: int, known: object) -> object:
            self.asked.append(after_position)
            if len(self.asked) > 1:
                await desk.clock.sleep(1_000.0)
            return 7, [start("wf-1")]

    arrivals = Arriving()
    desk.queue.arrivals = arrivals  # type: ignore[method-assign,assignment]
    await desk.queue.put([start("wf-1")])
    running = desk.begin(desk.supervision.run())
    await desk.pass_s()
    assert (told(desk), arrivals.asked) == (["wf-1"], [0, 7])
    running.cancel()


async def test_what_came_by_other_engines_and_could_not_be_looked_up_comes_again() -> None:
    desk = await desk_with(1)
    asked: list[int] = []

    async def arrivals(*, after_position: int, known: object) -> object:
        asked.append(after_position)
        if after_position:
            await desk.clock.sleep(1_000.0)
        return 7, [start("wf-1")]

    async def broken(workflow_ids: object) -> object:
        raise DriverError("no store")

    whole = desk.store.load
    desk.queue.arrivals = arrivals  # type: ignore[method-assign,assignment]
    desk.store.load = broken  # type: ignore[method-assign,assignment]
    await desk.queue.put([start("wf-1")])
    running = desk.begin(desk.supervision.run())
    await desk.pass_s()
    desk.store.load = whole  # type: ignore[method-assign]
    await desk.pass_s(SWEEP_S)
    assert (told(desk), asked) == (["wf-1"], [0, 0, 7])
    running.cancel()
