"""Bodies that wait for tasks, and tasks that are run beside the limits for them."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import AsyncIterator, Callable
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from rail_async_tasks.ids import new_id
from rail_async_tasks.queue_limits import QueueLimits
from rail_async_tasks.runtime.attempts.attempts import Attempts
from rail_async_tasks.runtime.attempts.deadlocks import READ, TRIES, DeadlockBreaker
from rail_async_tasks.runtime.attempts.held_slots import NAMED
from rail_async_tasks.runtime.attempts.outcomes import Interruption
from rail_async_tasks.runtime.attempts.waiters import Look, Waiter, Waiters
from rail_async_tasks.runtime.attempts.waits import Maker, Stray, Wait, waiting_for
from rail_async_tasks.runtime.claims.slots import Slots
from rail_async_tasks.snapshot import TaskSnapshot
from tests.runtime.core import Core
from tests.support.clock import FakeClock
from tests.support.waiting import TIMEOUT, eventually


class Parents:
    """Bodies that keep the slots of a process while they wait for children."""

    def __init__(self, core: Core, *, runs_here: bool = True) -> None:
        self.core = core
        self.looks = 0
        self.gate = asyncio.Event()
        self.waiters = core.waiters = Waiters(look=self._look)
        self.attempts: Attempts = core.attempts()
        self.breaker = DeadlockBreaker(
            state=core.state, ledger=core.ledger, registry=core.registry, running=core.running,
            slots=core.slots, attempts=self.attempts, waiters=self.waiters, max_crashes=2,
            runs_here=runs_here,
        )  # fmt: skip

        async def parent() -> None:
            await self.gate.wait()

        async def child() -> None:
            await self.gate.wait()

        core.task(parent)
        core.task(child)

    async def _look(self, waiter: Waiter) -> Look:
        self.looks += 1
        return await self.breaker.look(waiter)

    def start(self, name: str = "parent", **fields: Any) -> Any:
        claimed = self.core.claimed(name, **fields)
        self.attempts.start(claimed, self.core.state.id)
        return self.core.running.by_id[claimed.snapshot.id]

    def child(self, **fields: Any) -> TaskSnapshot:
        """Stores a child that waits for a slot."""
        new = self.core.new("child", **fields)
        self.core.ledger.create_here(new)
        found = self.core.ledger.get(new.id)
        assert found is not None
        return found

    def begin_wait(self, attempt: Any, child: TaskSnapshot) -> Wait:
        """Begins the wait of an attempt's body; of no attempt, a stray one."""
        wait = Wait(attempt, child, "fan-out")
        self.waiters.begin(wait)
        return wait


@pytest.fixture
async def core(clock: FakeClock) -> Core:
    core = Core(clock)
    core.empty_queues()
    return core


@pytest.fixture
async def parents(clock: FakeClock, core: Core) -> AsyncIterator[Parents]:
    parents = Parents(core)
    yield parents
    parents.gate.set()
    await clock.settle()
    await parents.attempts.close(5)


async def test_a_child_runs_beside_the_limits_while_all_slots_wait(
    clock: FakeClock, core: Core, parents: Parents
) -> None:
    """Two slots, two bodies that wait: one child for each, and no more."""
    first, second = parents.start(), parents.start()
    children = [parents.child() for _ in range(3)]
    parents.begin_wait(first, children[0])
    parents.begin_wait(first, children[1])
    await clock.advance(2)
    assert [core.status(it.id) for it in children] == ["running", "pending", "pending"]
    parents.begin_wait(second, children[2])
    await clock.advance(2)
    statuses = sorted(core.status(it.id) for it in children)
    assert statuses == ["pending", "running", "running"]


async def test_the_next_child_begins_when_one_has_ended(
    clock: FakeClock, core: Core, parents: Parents
) -> None:
    """At once, the longest awaited first; not at the next look, a second later."""
    first = parents.start()
    parents.start()
    children = [parents.child() for _ in range(4)]
    for child in children:
        parents.begin_wait(first, child)
        await clock.advance(0.01)
    await clock.advance(0.1)
    for number, child in enumerate(children, start=1):
        waiting = ["pending"] * (len(children) - number)
        assert [core.status(it.id) for it in children[number - 1 :]] == ["running", *waiting]
        core.running.by_id[child.id].interrupt(Interruption.CANCEL)
        await clock.settle()


async def test_one_look_begins_as_many_as_are_lent(
    clock: FakeClock, core: Core, parents: Parents
) -> None:
    """Another body waits too, for something that is not due."""
    first, second = parents.start(), parents.start()
    parents.begin_wait(second, parents.child(run_after=clock.now() + timedelta(hours=1)))
    await clock.advance(0.01)
    children = [parents.child() for _ in range(3)]
    for child in children:
        parents.begin_wait(first, child)
    await clock.advance(0.1)
    assert [core.status(it.id) for it in children] == ["running", "running", "pending"]


async def test_tasks_that_cannot_be_claimed_do_not_keep_others_from_a_slot(
    clock: FakeClock, core: Core, parents: Parents
) -> None:
    """A look tries some of them, the next look others."""
    first = parents.start()
    parents.start()
    for _ in range(2 * TRIES):
        child = parents.child()
        core.ledger.cancel(child.id, None)
        parents.begin_wait(first, child)
    child = parents.child()
    parents.begin_wait(first, child)
    await clock.advance(1.5)
    assert core.status(child.id) == "pending"
    await clock.advance(1)
    assert core.status(child.id) == "running"


async def test_two_looks_do_not_claim_for_one_slot(
    clock: FakeClock, core: Core, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A claim takes a while, and another body is looked at meanwhile."""
    core.slots = Slots(2, 1, None, [QueueLimits("default"), QueueLimits("narrow", concurrency=1)])
    core.empty_queues()
    parents = Parents(core)
    now = core.ledger.now

    async def slow_now() -> datetime:
        await asyncio.sleep(0)
        return await now()

    monkeypatch.setattr(core.ledger, "now", slow_now)
    past = clock.now() - timedelta(seconds=1)
    children = [parents.child(queue="narrow", run_after=past) for _ in range(2)]
    for body, child in zip([parents.start(), parents.start()], children, strict=True):
        parents.begin_wait(body, child)
    await clock.advance(3)
    assert sorted(core.status(it.id) for it in children) == ["pending", "running"]
    parents.gate.set()
    await clock.settle()


@pytest.mark.parametrize("why", ["runs", "paused", "resting"])
async def test_a_task_that_lacks_no_slot_is_not_claimed(
    clock: FakeClock,
    core: Core,
    parents: Parents,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    why: str,
) -> None:
    """It runs already, or nothing of its queue may start: only a pause is reported, once."""
    first, second = parents.start(), parents.start()
    child = parents.child()
    parents.begin_wait(second, child)
    if why == "runs":
        await clock.advance(0.1)
        assert core.status(child.id) == "running"
    elif why == "paused":
        core.slots.hold(frozenset({"default"}))
    else:
        core.slots.rest("default")
    claims: list[Any] = []
    monkeypatch.setattr(core.ledger, "claim_here", lambda *args: claims.append(args))
    parents.begin_wait(first, child)
    await clock.advance(10)
    assert claims == []
    assert caplog.text.count("Deadlock?") == (2 if why == "paused" else 0)
    assert caplog.text.count("the queue 'default' is paused. Resume the queue.") == (
        2 if why == "paused" else 0
    )


async def test_the_next_child_of_a_queue_with_a_limit_begins_when_one_has_ended(
    clock: FakeClock, core: Core
) -> None:
    """It lacks a slot of its queue, and then one of the process, which its parent lends."""
    core.slots = Slots(1, 1, None, [QueueLimits("default"), QueueLimits("narrow", concurrency=1)])
    core.empty_queues()
    parents = Parents(core)
    parent = parents.start()
    children = [parents.child(queue="narrow") for _ in range(2)]
    for child in children:
        parents.begin_wait(parent, child)
        await clock.advance(0.01)
    await clock.advance(0.1)
    assert [core.status(it.id) for it in children] == ["running", "pending"]
    core.running.by_id[children[0].id].interrupt(Interruption.CANCEL)
    await clock.settle()
    assert core.status(children[1].id) == "running"
    parents.gate.set()
    await clock.settle()


class Looks:
    """Threads that wait for tasks which lack slots, and the looks at them."""

    def __init__(self, core: Core) -> None:
        self.looked_at: list[Waiter] = []
        self.waiters = Waiters(look=self._look)
        self.during: Callable[[], None] = lambda: None
        self.found = Look(frozenset({("default", False)}))
        self.task = core.claimed(core.task(_ends).name).snapshot

    async def _look(self, waiter: Waiter) -> Look:
        self.looked_at.append(waiter)
        await asyncio.sleep(0)
        self.during()
        return self.found

    async def begin(self, clock: FakeClock, count: int) -> list[Wait]:
        """Begins so many waits one after the other; all have been looked at once."""
        waits = [Wait(None, self.task, str(number)) for number in range(count)]
        for wait in waits:
            self.waiters.begin(wait)
            await clock.advance(0.01)
        await clock.advance(0.1)
        return waits

    def threads(self) -> list[str]:
        """Returns the threads that were looked at since the last call."""
        threads = [str(it) for it in self.looked_at]
        self.looked_at.clear()
        return [it.removeprefix("The thread ").strip("'") for it in threads]


async def _ends() -> None:
    pass


async def test_two_slots_are_freed_and_two_waiters_are_looked_at(
    clock: FakeClock, core: Core
) -> None:
    """The second is freed while the first waiter is looked at. Each keeps its place."""
    looks = Looks(core)
    await looks.begin(clock, 3)
    assert looks.threads() == ["0", "1", "2"]
    for _ in range(2):
        looks.waiters.slot_freed()
        looks.waiters.slot_freed()
        await clock.settle()
    assert looks.threads() == ["0", "1", "0", "1"]


async def test_a_slot_that_the_first_in_line_does_not_need_goes_to_the_next(
    clock: FakeClock, core: Core
) -> None:
    """What it waits for was cancelled meanwhile, or begins elsewhere."""
    looks = Looks(core)
    await looks.begin(clock, 3)
    looks.threads()
    looks.found = Look()
    looks.waiters.slot_freed()
    await clock.settle()
    assert looks.threads() == ["0", "1", "2"]


async def test_a_look_for_a_freed_slot_puts_off_the_next_one(clock: FakeClock, core: Core) -> None:
    """One look is planned for each waiter, however many slots are freed."""
    looks = Looks(core)
    await looks.begin(clock, 1)
    for _ in range(5):
        looks.waiters.slot_freed()
        await clock.advance(0.5)
    assert looks.threads() == ["0"] * 6
    await clock.advance(5)
    assert looks.threads() == ["0"] * 5


async def test_a_wait_that_ends_while_it_is_looked_at_leaves_its_line(
    clock: FakeClock, core: Core
) -> None:
    """Nothing of it is kept, and it is looked at no more."""
    looks = Looks(core)
    first, second = await looks.begin(clock, 2)
    looks.waiters.end(first)
    looks.during = lambda: looks.waiters.end(second)
    for _ in range(2):
        looks.waiters.slot_freed()
        await clock.advance(2)
    assert looks.threads() == ["0", "1", "1"]


async def test_a_look_does_not_grow_with_the_tasks_that_a_body_waits_for(
    clock: FakeClock, core: Core, parents: Parents
) -> None:
    """A body that waits for thousands is looked at once, and claims one task for one slot."""
    first = parents.start()
    parents.start()
    children = [parents.child() for _ in range(1_000)]
    for child in children:
        parents.begin_wait(first, child)
    looks = parents.looks
    await clock.advance(0.1)
    core.running.by_id[children[0].id].interrupt(Interruption.CANCEL)
    await clock.settle()
    assert [core.status(it.id) for it in children[1:3]] == ["running", "pending"]
    assert parents.looks - looks <= 5


@pytest.mark.parametrize("reason", ["over", "drain"])
async def test_a_freed_slot_begins_nothing_for_a_wait_that_may_not(
    clock: FakeClock, core: Core, parents: Parents, reason: str
) -> None:
    """It has ended, or the process takes nothing more."""
    first = parents.start()
    parents.start()
    running, waiting = parents.child(), parents.child()
    parents.begin_wait(first, running)
    await clock.advance(0.01)
    wait = parents.begin_wait(first, waiting)
    await clock.advance(0.1)
    if reason == "over":
        parents.waiters.end(wait)
    core.state.draining = reason == "drain"
    core.running.by_id[running.id].interrupt(Interruption.CANCEL)
    await clock.settle()
    assert core.status(waiting.id) == "pending"


async def test_a_child_with_a_free_slot_is_left_to_the_dispatcher(
    clock: FakeClock, core: Core, parents: Parents
) -> None:
    """It is claimed when it is due."""
    child = parents.child()
    parents.begin_wait(parents.start(), child)
    await clock.advance(5)
    assert core.status(child.id) == "pending"


async def test_a_delayed_child_is_not_started_before_its_time(
    clock: FakeClock, core: Core, parents: Parents
) -> None:
    """A body waits for it for as long as it must."""
    first, second = parents.start(), parents.start()
    child = parents.child(run_after=clock.now() + timedelta(seconds=30))
    parents.begin_wait(first, child)
    parents.begin_wait(second, child)
    await clock.advance(29)
    assert core.status(child.id) == "pending"
    await clock.advance(3)
    assert core.status(child.id) == "running"


@pytest.mark.parametrize("reason", ["over", "drain", "no lease"])
async def test_nothing_is_started_for_a_wait_that_may_not(
    clock: FakeClock, core: Core, parents: Parents, reason: str
) -> None:
    """It is over, or this process takes nothing more."""
    first, second = parents.start(), parents.start()
    child = parents.child()
    waits = [parents.begin_wait(it, child) for it in (first, second)]
    if reason == "over":
        for wait in waits:
            parents.waiters.end(wait)
    core.state.draining = reason == "drain"
    core.state.holding = reason != "no lease"
    await clock.advance(5)
    assert core.status(child.id) == "pending"


async def test_a_queue_whose_slots_all_wait_is_reported_once(
    clock: FakeClock, core: Core, caplog: pytest.LogCaptureFixture
) -> None:
    """Its own limit is a promise: the child does not start."""
    core.slots = Slots(9, 1, None, [QueueLimits("default", concurrency=1)])
    parents = Parents(core)
    child = parents.child()
    parents.begin_wait(parents.start(), child)
    await clock.advance(5)
    warnings = [it.getMessage() for it in caplog.records if "Deadlock?" in it.getMessage()]
    assert len(warnings) == 1
    assert "all that the queue 'default' may run here at once (\"concurrency\": 1)" in warnings[0]
    assert core.status(child.id) == "pending"
    parents.gate.set()
    await clock.settle()


async def test_a_child_that_no_worker_begins_is_reported_after_five_seconds(
    clock: FakeClock, core: Core, caplog: pytest.LogCaptureFixture
) -> None:
    """By way of a broker other processes run it; here it is not started."""
    parents = Parents(core, runs_here=False)
    child = parents.child()
    parents.begin_wait(parents.start(), child)
    parents.begin_wait(parents.start(), child)
    await clock.advance(4.5)
    assert "Deadlock?" not in caplog.text
    await clock.advance(3)
    assert caplog.text.count("no worker has begun it for 5 s") == 2
    assert core.status(child.id) == "pending"
    parents.gate.set()
    await clock.settle()


async def test_a_child_that_is_not_due_excuses_no_other_one(
    clock: FakeClock, core: Core, caplog: pytest.LogCaptureFixture
) -> None:
    """The body waits for both, and no worker has begun the one that is due."""
    parents = Parents(core, runs_here=False)
    body = parents.start()
    parents.begin_wait(body, parents.child(run_after=clock.now() + timedelta(seconds=30)))
    parents.begin_wait(body, parents.child())
    await clock.advance(7)
    assert caplog.text.count("no worker has begun it for 5 s") == 1
    parents.gate.set()
    await clock.settle()


async def test_a_wait_in_a_body_is_known_while_it_lasts(clock: FakeClock, core: Core) -> None:
    """`waiting_for` finds the body's own attempt; outside of a body it does nothing."""
    parents = Parents(core)
    child = parents.child()
    ends = asyncio.Event()
    with waiting_for(child):
        pass

    async def waiter() -> None:
        with waiting_for(child):
            await ends.wait()
        await asyncio.sleep(1)

    core.task(waiter)
    attempts = core.attempts()
    attempts.start(core.claimed("waiter"), core.state.id)
    await clock.settle()
    assert [it.snapshot.name for it in parents.waiters.attempts] == ["waiter"]
    ends.set()
    await clock.settle()
    assert parents.waiters.attempts == set()
    await clock.advance(2)
    await attempts.close(5)


async def test_a_close_ends_the_waits(clock: FakeClock, core: Core, parents: Parents) -> None:
    """No look begins after it."""
    parents.begin_wait(parents.start(), parents.child())
    await parents.waiters.close(5)
    assert parents.waiters.attempts == set()
    await clock.advance(5)
    assert parents.looks == 0


async def test_a_body_that_has_ended_lends_no_slot(
    clock: FakeClock, core: Core, parents: Parents
) -> None:
    """Also where something still waits in its name, or begins to."""
    first, second = parents.start(), parents.start()
    children = [parents.child() for _ in range(3)]
    parents.begin_wait(first, children[0])
    first.interrupt(Interruption.CANCEL)
    await clock.settle()
    parents.begin_wait(first, children[1])
    parents.begin_wait(second, children[2])
    assert parents.waiters.attempts == {second}
    assert [parents.waiters.bodies(in_thread) for in_thread in (False, True)] == [1, 0]
    parents.start()
    await clock.advance(2)
    assert [core.status(it.id) for it in children] == ["pending", "pending", "running"]


async def test_bodies_take_turns_at_the_slots_that_are_freed(
    clock: FakeClock, core: Core, parents: Parents
) -> None:
    """One that waits for many tasks does not keep another one waiting for all of these."""
    many, few = parents.start(), parents.start()
    waiting_for: dict[UUID, str] = {}
    for body, name in [(many, "many")] * 5 + [(few, "few")] * 2:
        child = parents.child()
        waiting_for[child.id] = name
        parents.begin_wait(body, child)
        await clock.advance(0.01)
    await clock.advance(0.1)
    begun: list[UUID] = []
    while running := [it for it in waiting_for if core.status(it) == "running"]:
        begun += [it for it in running if it not in begun]
        core.running.by_id[running[0]].interrupt(Interruption.CANCEL)
        await clock.settle()
    names = [waiting_for[it] for it in begun]
    assert names == ["many", "few", "many", "few", "many", "many", "many"]


async def test_workers_that_are_at_work_are_not_missed(
    clock: FakeClock,
    core: Core,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A body has sent hundreds of tasks to a broker: one warning, and none while some go on."""
    parents = Parents(core, runs_here=False)
    body = parents.start()
    waits = [parents.begin_wait(body, parents.child()) for _ in range(300)]
    for wait in waits[:3]:  # one ends now and then
        await clock.advance(4)
        parents.waiters.end(wait)
    core.ledger.claim_here(waits[5].awaited.id, core.state.id, new_id())  # by a worker
    reads: list[int] = []
    reread = core.ledger.reread
    monkeypatch.setattr(core.ledger, "reread", lambda ids: (reads.append(len(ids)), reread(ids))[1])
    await clock.advance(30)
    assert "Deadlock?" not in caplog.text
    assert reads == [READ] * 5  # rows, every five seconds
    core.ledger.cancel(waits[5].awaited.id, None)
    parents.waiters.end(waits[5])
    await clock.advance(30)
    assert caplog.text.count("Deadlock?") == 1
    assert f"({waits[3].awaited.id}) and 295 more, which can't begin" in caplog.text
    parents.gate.set()
    await clock.settle()


async def test_a_delayed_child_is_overdue_once_it_is_due(
    clock: FakeClock, core: Core, caplog: pytest.LogCaptureFixture
) -> None:
    """Workers are not missed before its time."""
    parents = Parents(core, runs_here=False)
    child = parents.child(run_after=clock.now() + timedelta(seconds=30))
    parents.begin_wait(parents.start(), child)
    parents.begin_wait(None, child)
    await clock.advance(28)
    parents.start()
    await clock.advance(6.5)
    assert "Deadlock?" not in caplog.text
    await clock.advance(10)
    assert caplog.text.count("Deadlock?") == 2
    parents.gate.set()
    await clock.settle()


async def test_a_stray_wait_is_reported_while_the_same_bodies_hold_all_slots(
    clock: FakeClock, core: Core, parents: Parents, caplog: pytest.LogCaptureFixture
) -> None:
    """After five seconds, once. Nothing is started beside the limits: it may not be a body's."""
    gate = threading.Event()

    def blocking() -> None:
        gate.wait(TIMEOUT)

    core.task(blocking)
    holders = [parents.start(), parents.start()]
    child = parents.child()
    parents.begin_wait(None, child)
    await clock.advance(4.5)
    of_other_kind = parents.start("blocking")
    assert "Deadlock?" not in caplog.text
    await clock.advance(10)
    assert caplog.text.count("Deadlock?") == 1
    for part in ("'fan-out'", str(child.id), "(max_concurrency)", *map(str, holders)):
        assert part in caplog.text
    assert str(of_other_kind) not in caplog.text
    assert core.status(child.id) == "pending"
    assert parents.waiters.attempts == set()
    gate.set()
    await eventually(lambda: of_other_kind.ended)


@pytest.mark.parametrize("reason", ["a body ends", "a slot is free", "not due", "paused", "ended"])
async def test_a_stray_wait_for_a_task_with_a_chance_is_not_reported(
    clock: FakeClock,
    core: Core,
    parents: Parents,
    caplog: pytest.LogCaptureFixture,
    reason: str,
) -> None:
    """Bodies end one after the other, or slots are not what keeps the task from beginning."""
    holders = [parents.start() for _ in range(1 if reason == "a slot is free" else 2)]
    delay = timedelta(hours=1) if reason == "not due" else None
    child = parents.child(run_after=None if delay is None else clock.now() + delay)
    if reason == "paused":
        core.slots.hold(frozenset({"default"}))
    if reason == "ended":
        core.ledger.cancel(child.id, None)
    parents.begin_wait(None, child)
    for _ in range(4):
        await clock.advance(4)
        if reason == "a body ends":
            holders.pop(0).interrupt(Interruption.CANCEL)
            await clock.settle()
            holders.append(parents.start())
    assert "Deadlock?" not in caplog.text


@pytest.mark.parametrize("limit", ["queue", "total", "worker", "idle worker", "threads"])
async def test_a_stray_wait_names_the_limit_and_its_holders(
    clock: FakeClock, core: Core, caplog: pytest.LogCaptureFixture, limit: str
) -> None:
    """And what to do, which differs. A process without bodies has none that could wait."""
    count = NAMED + 2
    if limit == "queue":
        core.slots = Slots(9, 1, None, [QueueLimits("default", concurrency=count)])
    else:
        core.slots = Slots(9, 0, count if limit == "total" else None, [QueueLimits("default")])
    parents = Parents(core, runs_here="worker" not in limit)
    for _ in range(0 if limit == "idle worker" else count):
        parents.start()
    parents.begin_wait(None, parents.child())
    await clock.advance(7)
    parts = {
        "queue": ["'default' (\"concurrency\": 5)", ".using(", "and 2 more."],
        "total": ["(max_workers)", "hand the handle"],
        "worker": ["no worker has begun it", "add workers"],
    }
    said = parts.get(limit, [])  # "threads": the child is `async def`, and has a slot
    assert ("Deadlock?" in caplog.text) is bool(said)
    assert all(part in caplog.text for part in said)
    parents.gate.set()
    await clock.settle()


async def test_the_maker_of_a_handle_waits_where_the_context_names_no_body(
    clock: FakeClock, core: Core
) -> None:
    """While its body runs. A handle keeps no attempt in memory."""
    parents = Parents(core)
    child, makers = parents.child(), []
    ends = asyncio.Event()

    async def maker() -> None:
        makers.append(Maker.current())
        await ends.wait()

    core.task(maker)
    attempts = core.attempts()
    attempts.start(core.claimed("maker"), core.state.id)
    await clock.settle()
    assert Maker.current() is None
    (attempt,) = core.running.by_id.values()
    with waiting_for(child, maker=makers[0], stray=Stray(parents.waiters, "fan-out")):
        await clock.settle()
        assert [it.snapshot.name for it in parents.waiters.attempts] == ["maker"]
    ends.set()
    await clock.settle()
    assert attempt.ended
    with waiting_for(child, maker=makers[0]):
        await clock.settle()
        assert parents.waiters.attempts == set()
    del attempt
    gc.collect()
    assert makers[0].found() is None
    await attempts.close(5)
