"""The texts of snapshots, rendered once for all who read the same."""

from __future__ import annotations

import asyncio
import gc
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from rail_async_tasks.ids import new_id
from rail_async_tasks.service import renderings
from rail_async_tasks.service.renderings import Renderings, SharedRenderings
from rail_async_tasks.snapshot import TaskSnapshot


def snapshot(**fields: Any) -> TaskSnapshot:
    now = datetime.now(UTC)
    return TaskSnapshot(
        id=new_id(), name="t", status="running", queue="q", created_at=now, updated_at=now, **fields
    )


def newer(it: TaskSnapshot, progress: int) -> TaskSnapshot:
    return msgspec.structs.replace(it, progress=progress, step=it.step + 1)


async def test_a_snapshot_is_rendered_once() -> None:
    """Also where each reader has read the row by itself; a newer one is rendered anew."""
    texts: Renderings[str] = Renderings(lambda it: f"{it.progress}")
    it = snapshot()
    assert [await texts.of(it) for _ in range(3)] == ["0"] * 3
    assert await texts.of(msgspec.structs.replace(it)) == "0"
    assert texts.count == 1
    assert await texts.of(newer(it, 7)) == "7"
    assert texts.count == 2


async def test_equal_versions_with_other_content_are_apart() -> None:
    """A cancel request changes a row and not its version."""
    texts: Renderings[str] = Renderings(lambda it: f"{it.cancel_requested}")
    it = snapshot()
    assert await texts.of(it) == "False"
    assert await texts.of(msgspec.structs.replace(it, cancel_requested=True)) == "True"


async def test_readers_wait_for_one_rendering() -> None:
    """That reads a traceback, say; the reader that asked first may leave."""
    go = asyncio.Event()

    async def render(it: TaskSnapshot) -> str:
        await go.wait()
        return "text"

    texts: Renderings[str] = Renderings(render)
    it = snapshot()
    readers = [asyncio.ensure_future(texts.of(it)) for _ in range(3)]
    await asyncio.sleep(0)
    readers[0].cancel()
    await asyncio.sleep(0)
    go.set()
    assert await asyncio.gather(*readers[1:]) == ["text", "text"]
    assert await texts.of(it) == "text"
    assert texts.count == 1


async def test_a_failure_is_not_kept() -> None:
    """Neither one that is raised at once nor one that is raised later."""

    async def later(it: TaskSnapshot) -> str:
        raise LookupError

    def at_once(it: TaskSnapshot) -> str:
        raise LookupError

    for render in (later, at_once):
        texts: Renderings[str] = Renderings(render)
        it = snapshot()
        for number in (1, 2):
            with pytest.raises(LookupError):
                await texts.of(it)
            assert texts.count == number


async def test_what_is_kept_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """By the number of tasks, and by the bytes of their texts and of what they have returned."""
    texts: Renderings[str] = Renderings(lambda it: "x" * 10)
    monkeypatch.setattr(renderings, "MOST_TASKS", 3)
    some = [snapshot() for _ in range(4)]
    for it in (*some, *some[1:]):
        await texts.of(it)
    assert texts.count == 4
    await texts.of(some[0])
    assert texts.count == 5
    monkeypatch.setattr(renderings, "MOST_BYTES", 10_000)
    last = snapshot(result="x" * 10_000)
    await texts.of(last)
    for it in (last, some[0]):
        await texts.of(it)
    assert texts.count == 7


async def test_readers_of_one_key_share_as_long_as_there_are_some() -> None:
    """Nothing is left after the last one."""
    shared: SharedRenderings[str] = SharedRenderings()
    one = shared.get("key", lambda _: "one")
    assert shared.get("key", lambda _: "two") is one
    assert shared.get("other", lambda _: "two") is not one
    del one
    gc.collect()
    assert await shared.get("key", lambda _: "three").of(snapshot()) == "three"


def test_each_loop_has_its_own() -> None:
    """A future of one loop cannot be awaited on another."""
    shared: SharedRenderings[str] = SharedRenderings()

    async def get() -> Renderings[str]:
        return shared.get("key", lambda _: "text")

    assert asyncio.run(get()) is not asyncio.run(get())
