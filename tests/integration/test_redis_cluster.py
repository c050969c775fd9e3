"""The bus over a Redis Cluster: two processes, each at a node of its own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AsyncExitStack, ExitStack
from datetime import UTC, datetime
from pathlib import Path

import pytest

from devservers.process import free_port
from devservers.redis import RedisServer, running_redis
from rail_async_tasks.bus.redis import RedisBus
from rail_async_tasks.ids import new_id
from rail_async_tasks.ledger.memory.ledger import MemoryLedger
from rail_async_tasks.snapshot import TaskSnapshot, task_topic
from rail_async_tasks.states import Status
from tests.support.waiting import eventually

pytestmark = pytest.mark.redis

SLOTS = 16384


@pytest.fixture
def nodes(redis_program: Path) -> Iterator[list[RedisServer]]:
    """Two servers that are one cluster, with half of the slots each."""
    with ExitStack() as stack:
        ports = [str(free_port()) for _ in range(2)]
        nodes = [
            stack.enter_context(
                running_redis(
                    **{"cluster-enabled": "yes", "cluster-port": port},
                )
            )
            for port in ports
        ]
        nodes[0].ask("CLUSTER", "ADDSLOTSRANGE", 0, SLOTS // 2 - 1)
        nodes[1].ask("CLUSTER", "ADDSLOTSRANGE", SLOTS // 2, SLOTS - 1)
        nodes[0].ask("CLUSTER", "MEET", "127.0.0.1", nodes[1].port, ports[1])
        yield nodes


async def _one_cluster(nodes: list[RedisServer]) -> None:
    def is_ready() -> bool:
        return all("cluster_state:ok" in str(node.ask("CLUSTER", "INFO")) for node in nodes)

    await eventually(is_ready, every=0.05)


async def test_what_is_published_at_one_node_is_heard_at_another(nodes: list[RedisServer]) -> None:
    """A cluster carries plain PUBLISH to all of its nodes."""
    await _one_cluster(nodes)
    here, there = (RedisBus(node.url, "tasks") for node in nodes)
    now = datetime.now(UTC)
    running = TaskSnapshot(
        id=new_id(), name="cluster.steps", status=Status.RUNNING, queue="default", seq=2, step=1,
        created_at=now, updated_at=now, progress=50,
    )  # fmt: skip
    async with AsyncExitStack() as stack:
        for bus in (here, there):
            bus.start(MemoryLedger(), lambda _: None, lambda: None)
            stack.push_async_callback(bus.stop)
        await stack.enter_async_context(there.subscribe(task_topic(running.id)))

        def is_heard() -> bool:
            here.publish(running)
            return bool(here.statistics()["sent"] and there.statistics()["heard"])

        await eventually(is_heard, every=0.1)
    assert all(int(node.ask("CLUSTER", "INFO").count("cluster_known_nodes:2")) for node in nodes)
