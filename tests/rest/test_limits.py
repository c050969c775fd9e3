"""Limits of REST: large lists, and streams of one caller."""

from __future__ import annotations

from typing import Any

import pytest

from rail_async_tasks.auth import open_connections
from rail_async_tasks.ledger.orm import reads
from rail_async_tasks.models import TaskExecution
from tests.rest import shelf
from tests.rest.conftest import Configure, Rest, code_of, finished, waiting
from tests.support.waiting import eventually

pytestmark = pytest.mark.parametrize("database", ["sqlite"], indirect=True)


async def test_a_list_of_large_results_is_refused_unread(
    ada: Rest, bob: Rest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """60 results of 250 KiB, of which none is read; a page that fits is."""
    await finished(shelf.echo, ada)
    row = await TaskExecution.objects.aget()
    columns = {field.attname: getattr(row, field.attname) for field in row._meta.concrete_fields}
    ids = [f"01890a5d-ac96-774b-bcce-{number:012x}" for number in range(60)]
    large = {**columns, "result": "x" * 250 * 1024}
    await TaskExecution.objects.abulk_create(TaskExecution(**{**large, "id": it}) for it in ids)
    read: list[Any] = []
    real = reads.snapshot_of
    monkeypatch.setattr(reads, "snapshot_of", lambda it: read.append(it) or real(it))
    response = await ada.get("?limit=500")
    assert (response.status_code, code_of(response)) == (400, "TOO_LARGE")
    assert 'limits["answer_bytes"]' in response.json()["error"]["message"]
    assert read == []
    assert len((await ada.get("?limit=10")).json()["results"]) == 10
    assert await bob.ids() == []


async def test_streams_of_one_caller_are_counted(
    ada: Rest, bob: Rest, configure: Configure
) -> None:
    """One too many is a 429 with Retry-After; one that ends makes room, and another user has it."""
    configure(limits={"streams_per_user": 2})
    task_id = await waiting(ada)
    streams = [await ada.get(f"{task_id}/events/") for _ in range(2)]
    refused = await ada.get(f"{task_id}/events/")
    assert (refused.status_code, code_of(refused)) == (429, "TOO_MANY")
    assert int(refused["Retry-After"]) > 0
    other = await waiting(bob)
    assert (await bob.get(f"{other}/events/")).status_code == 200
    shelf.gate.go.set()
    for stream in streams:
        async for _ in stream.streaming_content:
            pass
    await eventually(lambda: len(open_connections.streams) <= 1)
    assert (await ada.get(f"{task_id}/events/")).status_code == 200
