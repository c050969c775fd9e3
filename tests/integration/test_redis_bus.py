"""The bus between processes: what others hear, what they do not, and what befalls it.

`far` is the bus of another process. No reconciler reads for it: watchers see what came by Redis.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import logging
import os
import pickle
import re
import signal
import ssl
import sys
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any
from uuid import UUID
from weakref import WeakKeyDictionary

import msgspec
import pytest
import redis
from asgiref.sync import sync_to_async
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from devservers.redis import RedisServer, running_redis
from rail_async_tasks import Fail, Task, TaskHandle, service, task
from rail_async_tasks.access import SYSTEM
from rail_async_tasks.bus import listener, publisher
from rail_async_tasks.bus.mailbox import Mailbox
from rail_async_tasks.bus.redis import RedisBus
from rail_async_tasks.bus.wire import MAX_BYTES, encode, event_of
from rail_async_tasks.errors import ConfigurationError
from rail_async_tasks.hosting import process as host
from rail_async_tasks.hosting.making import make_ledger
from rail_async_tasks.ids import new_id
from rail_async_tasks.snapshot import TaskSnapshot, owner_topic, task_topic
from tests.services.proxy import Proxy, running_proxy
from tests.support.runtimes import Configure
from tests.support.timings import Timings
from tests.support.waiting import TIMEOUT, eventually, final

pytestmark = [
    pytest.mark.parametrize("store", ["sqlite"], indirect=True),
    pytest.mark.redis,
    pytest.mark.usefixtures("ends_cleanly"),
]

# A connection that is dead on one side only is found within this time, in seconds.
HALF_OPEN = 10.0

MakeBus = Callable[..., Awaitable[RedisBus]]


def declared() -> Task:
    """A task that reports the given progress, one step per signal."""

    @task(name="redis.steps", max_retries=0)
    async def steps(info: Any, secret: str = "", fails: bool = False) -> str:
        for percent in (10, 20, 30, 40):
            await gates[str(info.context.task.id)].get()
            info.context.task.update_progress(percent, f"at {percent}")
        await gates[str(info.context.task.id)].get()
        if fails:
            raise Fail(f"no {secret}")
        return f"the {secret}"

    return steps


class Gates(dict[str, "asyncio.Queue[None]"]):
    def __missing__(self, key: str) -> asyncio.Queue[None]:
        self[key] = asyncio.Queue()
        return self[key]


gates = Gates()


def let(handle: TaskHandle, steps: int = 5) -> None:
    """Lets the task do so many steps."""
    for _ in range(steps):
        gates[str(handle.id)].put_nowait(None)


@pytest.fixture
async def stack(configure: Configure) -> AsyncIterator[AsyncExitStack]:
    gates.clear()
    async with AsyncExitStack() as stack:
        yield stack


@pytest.fixture
async def make_bus(stack: AsyncExitStack, configure: Configure) -> MakeBus:
    """Makes the bus of another process, which reads the same ledger."""

    async def make(url: str, prefix: str = "tasks", *, connected: bool = True) -> RedisBus:
        bus, ledger = RedisBus(url, prefix), make_ledger()
        ledger.start()
        stack.push_async_callback(ledger.stop)
        bus.start(ledger, lambda _: None, lambda: None)
        stack.push_async_callback(bus.stop)
        if connected:
            await eventually(lambda: bus.connected)
        return bus

    return make


@pytest.fixture
async def far(own_redis: RedisServer, configure: Configure, make_bus: MakeBus) -> RedisBus:
    """Another process's bus; tasks run in this one, which has the server too."""
    configure(redis_url=own_redis.url, progress_interval_seconds=0.001, drain_seconds=0.1)
    return await make_bus(own_redis.url)


@sync_to_async
def row_of(it: UUID) -> TaskSnapshot | None:
    return host.ledger().get(it)


async def watch(bus: RedisBus, it: UUID) -> AsyncIterator[TaskSnapshot]:
    """As `service.watch` does, in the process of that bus."""
    async with bus.subscribe(task_topic(it)) as mailbox:
        snapshot = await row_of(it)
        assert snapshot is not None
        yield snapshot
        version = snapshot.version
        while not snapshot.is_final:
            snapshot = await anext(mailbox)
            if snapshot.version > version:
                version = snapshot.version
                yield snapshot


async def everything(
    bus: RedisBus, handle: TaskHandle, seconds: float = TIMEOUT
) -> list[TaskSnapshot]:
    """All that a watcher sees, to the end."""
    async with asyncio.timeout(TIMEOUT):
        return [it async for it in watch(bus, handle.id)]


_latest: WeakKeyDictionary[Mailbox, dict[UUID, tuple[int, int]]] = WeakKeyDictionary()


async def read(mailbox: Mailbox, seconds: float = TIMEOUT) -> TaskSnapshot:
    """Returns the events that are new to a watcher, which passes over known ones."""
    latest = _latest.setdefault(mailbox, {})
    async with asyncio.timeout(seconds):
        while (seen := await anext(mailbox)).version <= latest.get(seen.id, (0, 0)):
            pass
    latest[seen.id] = seen.version
    return seen


async def quiet(bus: RedisBus, seconds: float = 0.3) -> None:
    """Returns when the bus has heard and read all that was on its way."""
    before: dict[str, int] = {}
    while (now := bus.statistics()) != before or not now["reread"]:
        before = now
        await asyncio.sleep(seconds)


async def nothing_new(mailbox: Mailbox, seconds: float = 0.2) -> bool:
    with pytest.raises(TimeoutError):
        await read(mailbox, seconds)
    return True


def assert_in_order(seen: list[TaskSnapshot]) -> None:
    versions = [it.version for it in seen]
    assert versions == sorted(set(versions))
    assert [it.is_final for it in seen] == [False] * (len(seen) - 1) + [True]


async def is_heard(bus: RedisBus, topic: str, server: RedisServer) -> None:
    """Returns once the server knows that the bus hears the topic."""
    await eventually(lambda: server.ask("PUBSUB", "NUMSUB", f"tasks:{topic}")[1] > 0)


# --- what others hear ----------------------------------------------------------------------------


@pytest.mark.usefixtures("loop_kind")
async def test_progress_and_end_reach_another_process(
    far: RedisBus, own_redis: RedisServer
) -> None:
    """Each step with its message; the end with its result, which was read from the row."""
    handle = await declared().aenqueue(secret="pear")
    async with far.subscribe(task_topic(handle.id)) as mailbox:
        await is_heard(far, task_topic(handle.id), own_redis)
        while (await read(mailbox)).status != "running":
            pass
        before = far.statistics()["reread"]
        for percent in (10, 20, 30, 40):
            let(handle, 1)
            seen = await read(mailbox)
            assert (seen.progress, seen.progress_message) == (percent, f"at {percent}")
        assert far.statistics()["reread"] <= before + 1  # the first may find no row read
        let(handle, 1)
        seen = await read(mailbox)
        assert (seen.status, seen.result) == ("completed", "the pear")
        assert seen == (await handle.arefresh()).snapshot


async def test_an_owners_tasks_are_sent_from_elsewhere(
    far: RedisBus, own_redis: RedisServer
) -> None:
    """Of all that is theirs, in their tenant; of nothing else."""
    steps, topic = declared(), owner_topic("7", "a")
    async with far.subscribe(topic) as mailbox:
        await is_heard(far, topic, own_redis)
        mine = [await steps.using(owner="7", tenant_id="a").aenqueue() for _ in range(3)]
        others = [await steps.using(owner="7").aenqueue(), await steps.aenqueue()]
        for handle in mine + others:
            let(handle)
        ended = set()
        while len(ended) < 3:
            seen = await read(mailbox)
            assert seen.id in {it.id for it in mine}
            ended |= {seen.id} if seen.is_final else set()
        for handle in others:
            await final(handle)
        assert await nothing_new(mailbox)


async def test_who_joins_hears_what_happened_meanwhile(
    far: RedisBus, own_redis: RedisServer
) -> None:
    """Between the look at the row and the server's word that the topic is heard."""
    handle = await declared().aenqueue()
    await eventually(lambda: host.current().attempts)  # type: ignore[union-attr]
    await eventually(
        lambda: host.bus().statistics()["sent"] and not host.bus().statistics()["waiting"]
    )
    before = far.statistics()["heard"]
    async with far.subscribe(task_topic(handle.id)) as mailbox:
        assert (await read(mailbox)).status == "running"
    assert far.statistics()["heard"] == before
    let(handle)
    await final(handle)


async def test_nothing_of_the_content_leaves_the_database(
    far: RedisBus, own_redis: RedisServer
) -> None:
    """No argument, result or error is in what Redis carries, whatever happens to a task."""
    steps = declared()
    with redis.Redis(port=own_redis.port) as client, client.pubsub() as ear:
        ear.psubscribe("*")
        for fails in (False, True):
            handle = await steps.using(owner="7").aenqueue(secret="quince", fails=fails)
            let(handle)
            last = await final(handle)
            assert "quince" in str(last.error if fails else last.result), last
        carried: list[Any] = []

        def four_are_carried() -> bool:
            if (message := ear.get_message(ignore_subscribe_messages=True)) is not None:
                carried.append(message)
            return len(carried) >= 4

        await eventually(four_are_carried)
    for message in carried:
        assert b"quince" not in message["data"]
        assert set(json.loads(message["data"])) <= {
            "v", "by", "id", "seq", "step", "progress", "message",
        }  # fmt: skip


async def test_a_cancel_elsewhere_is_heeded_at_once(far: RedisBus, timings: Timings) -> None:
    """Before the holder's next look at the ledger; what is not in the row is no cancel."""
    timings.set("reconciler", interval=3600)
    handle = await declared().aenqueue()
    forged = await declared_other().aenqueue()
    await eventually(lambda: len(host.current().attempts) == 2)  # type: ignore[union-attr]
    await eventually(lambda: host.bus().connected)
    cancelled = await sync_to_async(host.ledger().cancel)(handle.id, 60, "system")
    assert cancelled is not None
    for snapshot in (cancelled.snapshot, forged.snapshot):
        far.publish(news(snapshot, cancel_requested=True, status="running"))
    assert (await final(handle)).status == "cancelled"
    assert (await forged.arefresh()).status == "running"
    await forged.acancel()
    await final(forged)


def declared_other() -> Task:
    @task(name="redis.stays", max_retries=0)
    async def stays() -> None:
        await asyncio.Event().wait()

    return stays


def news(snapshot: TaskSnapshot, **fields: Any) -> TaskSnapshot:
    return msgspec.structs.replace(snapshot, **fields)


async def test_a_pause_elsewhere_is_heeded_at_once(far: RedisBus, timings: Timings) -> None:
    """Not only when what is known is old."""
    timings.set("reconciler", interval=3600.0)
    runtime = await host.aruntime()
    await eventually(lambda: host.bus().connected)
    pauses = runtime.services.pauses
    pauses.max_age = 3600.0
    await pauses.read()
    await sync_to_async(host.ledger().pause_queue)("low", None)
    far.announce_queues()
    await eventually(lambda: runtime.paused_queues == ["low"])
    await sync_to_async(host.ledger().resume_queue)("low", None)
    far.announce_queues()
    await eventually(lambda: runtime.paused_queues == [])


async def test_the_last_word_is_sent_before_the_end(
    far: RedisBus, own_redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A runtime that stops has published all that ended in it."""
    monkeypatch.setattr(publisher, "PAUSE", 60)
    handle = await declared().aenqueue()
    async with far.subscribe(task_topic(handle.id)) as mailbox:
        await eventually(lambda: host.bus().statistics()["sent"] and host.current().attempts)  # type: ignore[union-attr]
        await quiet(far)
        let(handle)
        await final(handle)
        assert host.bus().statistics()["waiting"]
        await host.astop()
        while not (await read(mailbox)).is_final:
            pass


# --- connections ---------------------------------------------------------------------------------


async def test_two_connections_whatever_the_number_of_watchers(
    own_redis: RedisServer, configure: Configure
) -> None:
    """A hundred watchers of tasks and owners: two. Once they have gone they are forgotten."""
    configure(redis_url=own_redis.url)
    steps = declared()
    handles = [await steps.using(owner=str(n)).aenqueue() for n in range(50)]
    await eventually(lambda: host.bus().connected)
    async with AsyncExitStack() as stack:
        topics = [task_topic(it.id) for it in handles] + [
            owner_topic(str(n), None) for n in range(50)
        ]
        for topic in topics:
            await stack.enter_async_context(host.bus().subscribe(topic))
        await eventually(lambda: len(own_redis.ask("PUBSUB", "CHANNELS")) == 102)
        for handle in handles:
            let(handle)
        for handle in handles:
            await final(handle)
        assert len(own_redis.clients()) == 2
        assert host.bus().statistics()["connections"] == 1
    left = {"tasks:cancels", "tasks:queues"}
    await eventually(lambda: set(own_redis.ask("PUBSUB", "CHANNELS")) == left)
    await host.astop()
    await eventually(lambda: own_redis.clients() == [])


async def test_a_forked_child_has_no_part_in_them(far: RedisBus, own_redis: RedisServer) -> None:
    """It begins with a bus of its own, without connections; its parent goes on as before."""
    handle = await declared().aenqueue()
    await eventually(lambda: host.bus().connected and host.bus().statistics()["sent"])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of a fork beside threads
        pid = os.fork()
    if pid == 0:
        status = 1
        with contextlib.suppress(BaseException):
            bus = host.bus()
            loop = asyncio.new_event_loop()
            loop.run_until_complete(loop.create_task(_collected()))
            status = 0 if "connections" not in bus.statistics() else 2
        os._exit(status)
    try:
        _, status = await asyncio.wait_for(asyncio.to_thread(os.waitpid, pid, 0), TIMEOUT)
    except TimeoutError:
        os.kill(pid, signal.SIGKILL)
        raise
    assert os.waitstatus_to_exitcode(status) == 0
    watcher = asyncio.ensure_future(everything(far, handle))
    await is_heard(far, task_topic(handle.id), own_redis)
    let(handle)
    assert_in_order(await watcher)
    far.publish(news(handle.snapshot, cancel_requested=True))
    await eventually(lambda: host.bus().statistics()["heard"] > 0)
    assert host.bus().statistics()["connections"] == 1
    assert host.bus().statistics()["failures"] == 0


async def _collected() -> None:
    gc.collect()


# --- what befalls it -----------------------------------------------------------------------------


async def test_a_server_that_is_gone_for_a_while(
    far: RedisBus, own_redis: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    """Tasks go on; watchers elsewhere see each end once, in order, when it is back."""
    steps = declared()
    early, during, late = [[await steps.aenqueue() for _ in range(10)] for _ in range(3)]
    watchers = [asyncio.ensure_future(everything(far, it)) for it in (*early, *during, *late)]
    await eventually(lambda: len(far.watched()) == 30)
    for handle in early:
        let(handle)
    for handle in early:
        await final(handle)
    own_redis.stop()
    for handle in during:
        let(handle)
    for handle in during:
        assert (await final(handle)).status == "completed"
    await eventually(lambda: not far.connected and not host.bus().connected)
    await asyncio.sleep(1)
    own_redis.start()
    await eventually(lambda: far.connected and host.bus().connected)
    for handle in late:
        let(handle)
    for seen in await asyncio.gather(*watchers):
        assert_in_order(seen)
    logged = [it.getMessage() for it in caplog.records if it.name == "rail_async_tasks.bus"]
    # Two buses with two connections: one failure each, whatever the number of tries.
    assert (
        1 <= len([it for it in logged if " Redis failed: " in it and "over after" not in it]) <= 4
    )
    assert [it for it in caplog.records if it.levelno > logging.WARNING] == []


@pytest.fixture
async def proxy(own_redis: RedisServer) -> AsyncIterator[Proxy]:
    async with running_proxy(own_redis.port) as proxy:
        yield proxy


async def test_a_connection_that_is_dead_on_one_side_is_found(
    own_redis: RedisServer, proxy: Proxy, configure: Configure, make_bus: MakeBus
) -> None:
    """Listeners notice within ten seconds; then all that is watched is read again."""
    configure(redis_url=own_redis.url)
    far = await make_bus(f"redis://127.0.0.1:{proxy.port}")
    handle = await declared().aenqueue()
    await eventually(lambda: host.current().attempts)  # type: ignore[union-attr]
    watcher = asyncio.ensure_future(everything(far, handle))
    await quiet(far)
    proxy.fall_silent()
    let(handle)
    await final(handle)
    assert_in_order(await watcher)
    assert listener.PING_EVERY + listener.SILENCE_TIMEOUT < HALF_OPEN
    assert far.statistics()["connections"] == 2
    await eventually(lambda: far.connected)


async def test_who_publishes_into_a_dead_connection(
    own_redis: RedisServer, proxy: Proxy, configure: Configure, make_bus: MakeBus
) -> None:
    """Finds it out, sends again on another, and no task has waited."""
    configure(
        redis_url=f"redis://127.0.0.1:{proxy.port}",
        progress_interval_seconds=0.001,
        drain_seconds=0.1,
    )
    far = await make_bus(own_redis.url)
    steps = declared()
    first, second = await steps.aenqueue(), await steps.aenqueue()
    let(first)
    assert_in_order(await everything(far, first))
    await eventually(lambda: second.id in host.current().attempts)  # type: ignore[union-attr]
    watcher = asyncio.ensure_future(everything(far, second))
    await is_heard(far, task_topic(second.id), own_redis)
    await quiet(far)
    proxy.fall_dead()  # until the task has ended: it waits for no connection
    let(second)
    assert (await final(second)).status == "completed"
    proxy.live_again()
    assert_in_order(await watcher)
    assert publisher.BATCH_TIMEOUT < HALF_OPEN


async def test_a_server_that_is_never_there(
    own_redis: RedisServer, configure: Configure, caplog: pytest.LogCaptureFixture
) -> None:
    """Costs no task a moment: publishing returns at once, and what waits is bounded."""
    own_redis.stop()
    configure(redis_url=own_redis.url, progress_interval_seconds=0.001, drain_seconds=0.1)
    handle = await declared().aenqueue()
    seen = asyncio.ensure_future(_watched(handle))
    await eventually(lambda: host.bus().statistics()["subscribers"])
    let(handle)
    assert (await final(handle)).status == "completed"
    assert_in_order(await seen)
    assert not host.bus().connected
    bus = host.bus()
    row = (await handle.arefresh()).snapshot
    for _ in range(12_000):
        bus.publish(news(row, id=new_id()))
    assert bus.statistics()["dropped"] >= 1900
    await eventually(lambda: bus.statistics()["failures"] >= 6)
    logged = [it for it in caplog.records if it.name == "rail_async_tasks.bus"]
    assert len(logged) == 2  # one of each connection
    await asyncio.wait_for(host.astop(), TIMEOUT)


async def _watched(handle: TaskHandle) -> list[TaskSnapshot]:
    return [it async for it in service.watch(SYSTEM, handle.id)]


# --- what strangers send -------------------------------------------------------------------------


class Bomb:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return (Path.touch, (self.path,))


def strange(it: UUID, by: UUID) -> dict[str, bytes]:
    """Events that do not belong to that execution."""
    good: dict[str, Any] = {"v": 1, "by": str(by), "id": str(it), "seq": 2, "step": 9}

    def but(**fields: Any) -> bytes:
        return json.dumps({**good, **fields}).encode()

    lacking = {key: json.dumps({k: v for k, v in good.items() if k != key}).encode()
               for key in ("v", "by", "id", "seq")}  # fmt: skip
    return {
        **{f"without {key}": data for key, data in lacking.items()},
        "nothing": b"", "null": b"null", "a list": b"[1]", "text": b'"x"', "half": b'{"v": 1,',
        "binary": b"\xff\xfe\x00", "nested": b"[" * 100_000, "another format": but(v=2),
        "a version that is text": but(v="1"), "an id that is none": but(id="../../etc"),
        "an id that is a number": but(id=7), "seq 0": but(seq=0), "seq < 0": but(seq=-1),
        "a huge seq": but(seq=2**63), "a seq with a fraction": but(seq=2.5),
        "step < 0": but(step=-1),
        "progress 101": but(progress=101), "progress < 0": but(progress=-1),
        "progress that is text": but(progress="50"), "progress NaN": but(progress=float("nan")),
        "a message that is a list": but(message=["x"]), "NUL": but(message="a\0b"),
        "half a pair": but(message="\ud800"), "a long message": but(message="x" * 2049),
        "a huge message": but(message="x" * 5_000_000), "much": b" " * MAX_BYTES + but(),
        "an import path": b'{"task": "os.system", "args": ["touch /tmp/x"]}',
    }  # fmt: skip


async def test_what_is_no_event_is_dropped(
    far: RedisBus, own_redis: RedisServer, tmp_path: Path
) -> None:
    """It is counted, reaches no watcher, and runs nothing."""
    handle = await declared().aenqueue()
    topic = task_topic(handle.id)
    sent = list(strange(handle.id, new_id()).values())
    sent.append(pickle.dumps(Bomb(tmp_path / "exploded")))
    async with far.subscribe(topic) as mailbox:
        await is_heard(far, topic, own_redis)
        while (await read(mailbox)).status != "running":
            pass
        with redis.Redis(port=own_redis.port) as client:
            for data in sent:
                for channel in (f"tasks:{topic}", "tasks:cancels"):
                    assert client.publish(channel, data) >= 1
        await eventually(lambda: far.statistics()["malformed"] == 2 * len(sent))
        assert await nothing_new(mailbox)
        let(handle, 1)
        assert (await read(mailbox)).progress == 10
    assert not (tmp_path / "exploded").exists()
    assert far.statistics()["connections"] == 1
    let(handle)
    await final(handle)


async def test_a_forger_can_lie_about_a_percentage_and_no_more(
    far: RedisBus, own_redis: RedisServer
) -> None:
    """Not about a state, which is read; nor make a watcher see another user's task."""
    handle = await declared().using(owner="7").aenqueue()
    topic, stranger = task_topic(handle.id), owner_topic("8", None)
    async with far.subscribe(topic) as mailbox, far.subscribe(stranger) as strangers:
        await is_heard(far, topic, own_redis)
        await is_heard(far, stranger, own_redis)
        while (running := await read(mailbox)).status != "running":
            pass

        def forged(**fields: Any) -> None:
            data = encode(event_of(news(running, **fields), new_id()))
            with redis.Redis(port=own_redis.port) as client:
                for channel in (topic, stranger):
                    client.publish(f"tasks:{channel}", data)

        before = far.statistics()["reread"]
        forged(seq=running.seq + 5, step=0)
        forged(seq=running.seq + 9, step=3, progress=99)
        await eventually(lambda: far.statistics()["reread"] > before)
        forged(step=2, progress=99, progress_message="lies")
        seen = await read(mailbox)
        assert (seen.status, seen.progress_message) == ("running", "lies")
        assert len(strangers) == 0
        let(handle)
        while not seen.is_final:
            seen = await read(mailbox)
        assert seen == (await handle.arefresh()).snapshot


# --- how it is reached ---------------------------------------------------------------------------


async def test_a_password_is_used_and_never_shown(
    redis_program: Path,
    make_bus: MakeBus,
    caplog: pytest.LogCaptureFixture,
    configure: Configure,
) -> None:
    """Neither a right one nor a wrong one is in the log or in an error."""
    caplog.set_level(logging.DEBUG)
    with running_redis(requirepass="right-one") as server:
        right = await make_bus(f"redis://:right-one@127.0.0.1:{server.port}/0")
        wrong = await make_bus(f"redis://:wrong-one@127.0.0.1:{server.port}/0", connected=False)
        await eventually(lambda: wrong.statistics()["failures"] > 0)
        assert right.connected
        assert not wrong.connected
    await eventually(lambda: right.statistics()["failures"] > 0)
    for url in ("redis://:wrong-one@host:port", "redis://:wrong-one@host/0?no_such=option"):
        with pytest.raises(ConfigurationError, match="redis_url") as caught:
            RedisBus(url, "tasks")
        assert "wrong-one" not in str(caught.value)
        assert caught.value.__cause__ is None
    assert "invalid username-password" in caplog.text
    assert "right-one" not in caplog.text
    assert "wrong-one" not in caplog.text
    assert "one" not in repr(right)


async def test_by_a_unix_socket(
    redis_program: Path, tmp_path: Path, make_bus: MakeBus, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As by TCP; options in the URL that would change answers change nothing. Silence is no end."""
    monkeypatch.setattr(listener, "PING_EVERY", 0.3)
    monkeypatch.setattr(listener, "SILENCE_TIMEOUT", 3.0)
    path = tmp_path / "redis.sock"
    with running_redis(unixsocket=str(path)):
        bus = await make_bus(f"unix://{path}?decode_responses=true&protocol=3&socket_timeout=1")
        await asyncio.sleep(4)
        assert bus.connected
        assert bus.statistics()["connections"] == 1
        assert bus.statistics()["malformed"] == 0
        await bus.stop()


def certificate(folder: Path) -> Path:
    """A key and its certificate for 127.0.0.1, in one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
    names = x509.SubjectAlternativeName([x509.IPAddress(IPv4Address("127.0.0.1"))])
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(names, critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = folder / "redis.pem"
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    path.write_bytes(private + made.public_bytes(serialization.Encoding.PEM))
    return path


async def test_by_tls(own_redis: RedisServer, tmp_path: Path, make_bus: MakeBus) -> None:
    """With `rediss://`, and only where the server's certificate is one that is trusted."""
    path = certificate(tmp_path)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(path)
    async with running_proxy(own_redis.port, tls) as proxy:
        url = f"rediss://127.0.0.1:{proxy.port}"
        bus = await make_bus(f"{url}?ssl_ca_certs={path}")
        stranger = await make_bus(url, connected=False)
        await eventually(lambda: stranger.statistics()["failures"] > 1)
        assert bus.connected
        assert not stranger.connected
        await bus.stop()
        await stranger.stop()


async def test_the_account_that_operations_advises(
    own_redis: RedisServer, make_bus: MakeBus, configure: Configure
) -> None:
    """Is enough for everything, and may do nothing else."""
    text = (Path(__file__).parents[2] / "docs/operations.md").read_text()
    [rights] = re.findall(r"`(\+publish [^`]*)`", text)
    own_redis.ask("ACL", "SETUSER", "bus", "on", ">word", "resetchannels", *rights.split())
    url = f"redis://bus:word@127.0.0.1:{own_redis.port}/3"
    configure(redis_url=url)
    far = await make_bus(url)
    handle = await declared().aenqueue()
    watcher = asyncio.ensure_future(everything(far, handle))
    await is_heard(far, task_topic(handle.id), own_redis)
    let(handle)
    assert_in_order(await watcher)
    assert host.bus().connected
    for bus in (far, host.bus()):
        assert bus.statistics()["failures"] == 0
    refused = pytest.raises(redis.exceptions.NoPermissionError)
    with redis.Redis.from_url(url.replace("/3", "/0")) as client, refused:
        client.get("x")


async def test_without_redis_py(monkeypatch: pytest.MonkeyPatch, configure: Configure) -> None:
    """The error names the extra that brings it."""
    monkeypatch.setitem(sys.modules, "redis.asyncio.connection", None)
    with pytest.raises(ConfigurationError, match=r"rail_async_tasks\[redis\]"):
        RedisBus("redis://127.0.0.1", "tasks")


async def test_two_projects_on_one_server(
    own_redis: RedisServer, far: RedisBus, make_bus: MakeBus
) -> None:
    """Do not hear each other: `subscription_channel` begins every channel's name."""
    other = await make_bus(own_redis.url, "another")
    it = (await declared().aenqueue()).snapshot
    async with (
        other.subscribe(task_topic(it.id)) as theirs,
        far.subscribe(task_topic(it.id)) as ours,
    ):
        await eventually(lambda: len(own_redis.ask("PUBSUB", "CHANNELS")) >= 4)
        await read(theirs)  # as it stands, from the row
        before = other.statistics()["heard"]
        let(TaskHandle(it))
        while not (await read(ours)).is_final:
            pass
        assert await nothing_new(theirs)
        assert other.statistics()["heard"] == before
    assert all(it.startswith(("tasks:", "another:")) for it in own_redis.ask("PUBSUB", "CHANNELS"))
    gc.collect()
