"""The events that wait to be sent to other processes: the latest one of each execution."""

from __future__ import annotations

import threading
from itertools import islice
from typing import NamedTuple

from rail_async_tasks.bus.wire import Event

# Executions with a waiting event; about 5 MB. So many wait only while the server is away.
CAPACITY = 10_000


class Parcel(NamedTuple):
    """An event and its topics."""

    event: Event
    topics: tuple[str, ...]
    is_final: bool


class Outbox:
    """Filled from any thread, emptied by one. When full, it drops the oldest progress first."""

    def __init__(self, capacity: int = CAPACITY) -> None:
        self._capacity = capacity
        self._lock = threading.Lock()
        # In order of arrival; a newer parcel of an execution keeps its predecessor's place.
        self._ends: dict[int, Parcel] = {}
        self._others: dict[int, Parcel] = {}
        self.dropped_count = 0

    def put(self, parcel: Parcel) -> None:
        """Stores a parcel, unless a waiting one of the same execution is as new."""
        key = parcel.event.id.int  # a UUID hashes slowly
        with self._lock:
            waiting = self._ends.get(key) or self._others.get(key)
            if waiting is not None and waiting.event.version >= parcel.event.version:
                return
            if parcel.is_final:
                self._others.pop(key, None)
                self._ends[key] = parcel
            else:
                self._others[key] = parcel
            if len(self) > self._capacity:
                crowd = self._others or self._ends
                del crowd[next(iter(crowd))]
                self.dropped_count += 1

    def take(self, most: int) -> list[Parcel]:
        """Removes and returns at most so many parcels, the ends first."""
        taken: list[Parcel] = []
        with self._lock:
            for crowd in (self._ends, self._others):
                for key in list(islice(crowd, most - len(taken))):
                    taken.append(crowd.pop(key))
        return taken

    def __len__(self) -> int:
        return len(self._ends) + len(self._others)
