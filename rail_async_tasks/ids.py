"""UUIDv7 ids: unique everywhere, and in the order of creation within a process.

The order lets a primary key serve as the paging cursor for "newest first" and keeps index inserts
at the right-hand edge. Layout after RFC 9562, section 5.7, method 3: 48 bits of Unix milliseconds,
then 12 bits of the millisecond's fraction, then 62 random bits. Python's `uuid.uuid7` needs 3.14.
"""

from __future__ import annotations

import os
import struct
import threading
import time
from uuid import UUID

from rail_async_tasks.forks import after_fork

_lock = threading.Lock()
_last = 0
_random: list[int] = []

# An id that is further ahead of the clock than this (seconds) was made while the clock was wrong.
MAX_AHEAD = 300.0
_MAX_STAMPS_AHEAD = int(MAX_AHEAD * 1000) << 12

# `os.urandom` gives up the interpreter lock, which a busy process gets back after milliseconds:
# it is asked for this many ids' worth at a time. Ids stay as hard to guess as the system's.
_POOL = 512
# The version's four bits and the variant's two.
_VERSION = (0x7 << 76) | (0b10 << 62)


def _forget_random() -> None:
    """Empties the pool in a forked child, which would else draw its parent's numbers."""
    _random.clear()


after_fork(_forget_random)


def new_id() -> UUID:
    """Returns a new UUIDv7, greater than every id that this process made before.

    Ids that it made while its clock was ahead by more than `MAX_AHEAD` seconds are excepted: else
    all later ids would be ahead too, and order and rate limits with them.
    """
    global _last
    stamp = time.time_ns() * 4096 // 1_000_000  # milliseconds, with 12 bits of their fraction
    with _lock:
        # A clock that stands still or steps back must not break the order.
        if _last - _MAX_STAMPS_AHEAD < stamp <= _last:
            stamp = _last + 1
        _last = stamp
        if not _random:
            drawn = struct.unpack(f"{_POOL}Q", os.urandom(8 * _POOL))
            _random.extend((it & 0x3FFF_FFFF_FFFF_FFFF) | _VERSION for it in drawn)
        random = _random.pop()
    return UUID(int=((stamp >> 12) << 80) | ((stamp & 0xFFF) << 64) | random)


def first_id_at(seconds: float) -> UUID:
    """Returns the lowest id of that moment (seconds since 1970)."""
    return UUID(int=max(int(seconds * 1000), 0) << 80)


def time_of(execution_id: UUID) -> float:
    """Returns the time of the id's creation in seconds since 1970, to the millisecond."""
    return (execution_id.int >> 80) / 1000


def parse_id(text: str | UUID) -> UUID | None:
    """Returns the id that `text` spells in canonical form, or None for a malformed one."""
    if isinstance(text, UUID):
        return text
    try:
        parsed = UUID(text)
    except (ValueError, AttributeError, TypeError):
        return None
    # `UUID()` also takes braces, "urn:uuid:" and stray hyphens; an id has one spelling.
    return parsed if str(parsed) == text.lower() else None
