"""UUIDv7 ids and their one spelling."""

from __future__ import annotations

import threading
import time
from uuid import UUID, uuid4

import pytest

from rail_async_tasks import ids
from rail_async_tasks.ids import new_id, parse_id


def test_ids_are_version_seven_and_hold_the_time() -> None:
    """48 bits of Unix milliseconds in front; version and variant as the RFC says."""
    before = time.time_ns() // 1_000_000
    it = new_id()
    after = time.time_ns() // 1_000_000
    assert it.version == 7
    assert it.variant == "specified in RFC 4122"
    assert before <= it.int >> 80 <= after + 1


def test_ids_grow() -> None:
    """Each is greater than all before it, also as text."""
    made = [new_id() for _ in range(5000)]
    assert made == sorted(set(made))
    assert [str(it) for it in made] == sorted(str(it) for it in made)


def test_ids_grow_under_a_clock_that_stands_still_or_steps_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The order of creation holds, over the end of a millisecond too."""
    first = new_id()
    frozen = time.time_ns() - 60_000_000_000
    monkeypatch.setattr(ids.time, "time_ns", lambda: frozen)
    made = [first] + [new_id() for _ in range(9000)]
    assert made == sorted(set(made))
    assert {it.version for it in made} == {7}


def test_ids_follow_a_clock_that_was_far_ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    """Once it is right again; else all later ones would be ahead too."""
    now = time.time_ns
    with monkeypatch.context() as patch:
        patch.setattr(ids.time, "time_ns", lambda: now() + 3600 * 10**9)
        ahead = new_id()
    began = time.time()
    made = [new_id() for _ in range(100)]
    assert made == sorted(set(made))
    assert made[-1] < ahead
    assert began - 20 < ids.time_of(made[0]) < time.time() + 20


def test_threads_share_the_order() -> None:
    """Ids of one process are unique and, within a thread, grow."""
    made: list[list[UUID]] = [[] for _ in range(4)]
    threads = [
        threading.Thread(target=lambda into=into: into.extend(new_id() for _ in range(2000)))
        for into in made
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(it == sorted(it) for it in made)
    assert len({it for each in made for it in each}) == 8000


def test_parse_takes_the_canonical_form() -> None:
    """In either case, of any version; a UUID is itself."""
    it = new_id()
    assert parse_id(it) is it
    assert parse_id(str(it)) == it
    assert parse_id(str(it).upper()) == it
    other = uuid4()
    assert parse_id(str(other)) == other


@pytest.mark.parametrize(
    "text",
    [
        "", "x", "1", "None", "0" * 32, "{%s}", "urn:uuid:%s", "%s ", " %s", "%s\n", "%s\0",
        "not-a-uuid-at-all-not-a-uuid-at-all", "é" * 36, "\u0660" * 36,
    ],
)  # fmt: skip
def test_parse_refuses_every_other_spelling(text: str) -> None:
    """An id has one spelling; all else names no task."""
    assert parse_id(text.replace("%s", str(new_id()))) is None


@pytest.mark.parametrize("value", [None, 7, 1.5, b"x", ["a"], object()])
def test_parse_of_what_is_no_text(value: object) -> None:
    """None, never an error."""
    assert parse_id(value) is None  # type: ignore[arg-type]
