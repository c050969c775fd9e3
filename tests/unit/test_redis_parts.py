"""Parts of the Redis bus, without a server: the outbox and the events."""

from __future__ import annotations

import threading
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rail_async_tasks.bus.outbox import Outbox, Parcel
from rail_async_tasks.bus.wire import MAX_BYTES, Event, applied, decode, encode, event_of
from rail_async_tasks.ids import new_id
from rail_async_tasks.snapshot import TaskSnapshot
from rail_async_tasks.text import MAX_MESSAGE_BYTES, clean

NOW = datetime(2026, 1, 1, tzinfo=UTC)
ME = new_id()


def snapshot(it: UUID, seq: int = 1, step: int = 0, **fields: Any) -> TaskSnapshot:
    values = {"name": "echo", "status": "running", "queue": "default"} | fields
    return TaskSnapshot(id=it, seq=seq, step=step, created_at=NOW, updated_at=NOW, **values)


def parcel(it: UUID, seq: int = 1, step: int = 0, *, end: bool = False) -> Parcel:
    return Parcel(event_of(snapshot(it, seq, step), ME), ("t",), end)


def versions(parcels: list[Parcel]) -> dict[UUID, tuple[int, int]]:
    return {it.event.id: it.event.version for it in parcels}


# --- the outbox ----------------------------------------------------------------------------------


def test_the_latest_of_each_waits() -> None:
    """In whichever order they come; they are taken once."""
    box, one, two = Outbox(), new_id(), new_id()
    for it, seq, step in [(one, 1, 0), (two, 2, 5), (one, 2, 1), (two, 2, 3), (one, 1, 9)]:
        box.put(parcel(it, seq, step))
    assert versions(box.take(10)) == {one: (2, 1), two: (2, 5)}
    assert len(box) == 0


def test_nothing_takes_the_place_of_an_end() -> None:
    """Nor does the end stand beside what came before it."""
    box, it = Outbox(), new_id()
    box.put(parcel(it, 2, 7))
    box.put(parcel(it, 3, end=True))
    box.put(parcel(it, 2, 8))
    assert len(box) == 1
    assert versions(box.take(10)) == {it: (3, 0)}


def test_of_what_is_too_much_an_end_is_the_last_to_go() -> None:
    """The oldest progress goes first; only among ends an end goes."""
    box = Outbox(capacity=3)
    ends, others = [new_id() for _ in range(4)], [new_id() for _ in range(3)]
    for it in (ends[0], *others, ends[1]):
        box.put(parcel(it, end=it in ends))
    assert set(versions(box.take(10))) == {*ends[:2], others[2]}
    assert box.dropped_count == 2
    for it in ends:
        box.put(parcel(it, end=True))
    assert list(versions(box.take(10))) == ends[1:]
    assert box.dropped_count == 3


def test_ends_are_taken_first_and_no_more_than_asked() -> None:
    """The rest stays."""
    box, end, others = Outbox(), new_id(), [new_id() for _ in range(3)]
    for it in others:
        box.put(parcel(it))
    box.put(parcel(end, end=True))
    assert list(versions(box.take(2))) == [end, others[0]]
    assert list(versions(box.take(9))) == others[1:]


def test_an_outbox_is_filled_from_threads() -> None:
    """While another takes: each execution's last word arrives, in order."""
    box, ids = Outbox(), [new_id() for _ in range(4)]
    seen: dict[UUID, list[tuple[int, int]]] = {it: [] for it in ids}

    def fill(it: UUID) -> None:
        for seq in range(1, 1000):
            box.put(parcel(it, seq))
        box.put(parcel(it, 1000, end=True))

    threads = [threading.Thread(target=fill, args=(it,)) for it in ids]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads) or len(box):
        for it, version in versions(box.take(2)).items():
            seen[it].append(version)
    for taken in seen.values():
        assert taken == sorted(set(taken))
        assert taken[-1] == (1000, 0)


# --- the events ----------------------------------------------------------------------------------


def test_events_come_back_as_they_were_sent() -> None:
    """Also with the longest message that there is; they contain no state."""
    longest = clean("\x01" * 10_000, MAX_MESSAGE_BYTES)
    for fields in ({"step": 0}, {"step": 3, "progress": 50, "progress_message": longest}):
        sent = snapshot(new_id(), 2, **{"result": "secret", "error": "secret", **fields})
        data = encode(event_of(sent, ME))
        assert b"secret" not in data
        assert len(data) <= MAX_BYTES
        heard = decode(data)
        assert heard is not None
        assert heard == event_of(sent, ME)
        assert heard.version == sent.version


@given(st.binary() | st.text().map(str.encode))
def test_any_data_is_an_event_or_nothing(data: bytes) -> None:
    """And never an error."""
    found = decode(data)
    assert found is None or isinstance(found, Event)


@pytest.mark.parametrize("data", [None, 1, "text", [b"x"], b" " * (MAX_BYTES + 1)])
def test_what_no_server_sends_is_nothing(data: Any) -> None:
    """An int, a list, too much."""
    assert decode(data) is None


def test_progress_belongs_to_its_state() -> None:
    """It changes the percentage, the message and the step, and those of nothing else."""
    it = new_id()
    before = snapshot(it, 2, 1, progress=10, owner_id="7")

    def event(seq: int, step: int) -> Event:
        return event_of(snapshot(it, seq, step, progress=60, progress_message="x"), ME)

    assert applied(before, event(2, 2)) == snapshot(
        it, 2, 2, progress=60, progress_message="x", owner_id="7"
    )
    for seq, step in [(2, 1), (2, 0), (1, 5), (3, 1)]:
        assert applied(before, event(seq, step)) is None
    final = snapshot(it, 2, 0, status="completed")
    assert applied(final, event(2, 2)) is None
