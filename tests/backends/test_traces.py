"""One trace from the mutation in the web process to the body in a worker, on every backend."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from devservers.redis import RedisServer
from tests.backends.faults import world_of
from tests.backends.kinds import KINDS, Kind
from tests.backends.world import World
from tests.support.client import Client
from tests.support.span_files import Written, written
from tests.support.waiting import eventually

# The others take as long: among the long tests.
SHORT = ("arq",)

pytestmark = [
    pytest.mark.postgres,
    pytest.mark.redis,
    pytest.mark.parametrize(
        "kind",
        [pytest.param(it, marks=[pytest.mark.long] * (it not in SHORT)) for it in KINDS],
        indirect=True,
        scope="module",
    ),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("spans")


@pytest.fixture(scope="module")
def world(
    kind: Kind,
    folder: Path,
    broker_server: RedisServer,
    postgres_server: Any,
    django_db_blocker: Any,
) -> Iterator[World]:
    """A web server and a worker that write their spans."""
    url = broker_server.url
    with world_of(kind, url, postgres_server, django_db_blocker, otel_enabled=True) as it:
        it.env["BACKENDS_SPANS"] = str(folder)
        it.serve()
        it.work()
        yield it


async def test_one_trace_from_the_mutation_to_the_body(
    ada: Client, world: World, folder: Path
) -> None:
    """The resolver's span, the producer's, and for each attempt the consumer's and the body's own.

    The first two are of the web process, the others of the worker, which is another process but for
    backends without one.
    """
    last = await ada.final(await ada.start("traced"))
    assert (last["status"], last["attempts"]) == ("completed", 2), last

    def of_the_task() -> list[Written]:
        found = written(folder)
        mine = [it for it in found if it.attributes.get("messaging.message.id") == last["id"]]
        traces = {it.trace_id for it in mine}
        assert len(traces) <= 1
        return [it for it in found if it.trace_id in traces]

    def named(name: str) -> list[Written]:
        return [it for it in of_the_task() if it.name == name]

    await eventually(lambda: len(named("process default")) == 2)
    await eventually(lambda: named("GraphQL Resolving: traced"))
    (resolver,), (producer,) = named("GraphQL Resolving: traced"), named("send default")
    consumers, bodies = named("process default"), named("in the body")
    assert producer.parent in (resolver.id, f"0x{resolver.id}")
    assert producer.pid == resolver.pid == world.servers[0].pid
    ids = {it.id.removeprefix("0x"): it for it in of_the_task()}

    def above(span: Written) -> Written:
        assert span.parent is not None
        return ids[span.parent.removeprefix("0x")]

    assert [above(it) for it in consumers] == [producer] * 2
    consumers.sort(key=lambda it: it.attributes["rail_tasks.attempt"])
    assert [it.attributes["rail_tasks.attempt"] for it in consumers] == [1, 2]
    assert [it.attributes["rail_tasks.outcome"] for it in consumers] == ["retrying", "completed"]
    # Django-Q's cluster has several processes, and each attempt may be in another one.
    assert consumers[1].pid == last["result"]
    assert {(above(it).id, it.pid) for it in bodies} == {(it.id, it.pid) for it in consumers}
    assert any(it.pid == resolver.pid for it in consumers) == (not world.kind.worker)
