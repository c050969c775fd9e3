"""An observer for tests."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from rail_async_tasks.snapshot import TaskSnapshot


@dataclass
class Recorder:
    """Records all calls, as (event, status, other values)."""

    seen: list[tuple[Any, ...]] = field(default_factory=list)

    def enqueued(self, snapshot: TaskSnapshot) -> None:
        self.seen.append(("enqueued", snapshot.status))

    def started(self, snapshot: TaskSnapshot) -> None:
        self.seen.append(("started", snapshot.status, snapshot.attempts))

    def slow(self, snapshot: TaskSnapshot, seconds: float) -> None:
        self.seen.append(("slow", snapshot.status, seconds))

    def ended(self, snapshot: TaskSnapshot, seconds: float | None, traceback: str | None) -> None:
        self.seen.append(("ended", snapshot.status, seconds, traceback))

    def dropped(self, snapshot: TaskSnapshot, seconds: float) -> None:
        self.seen.append(("dropped", snapshot.status, seconds))

    @property
    def events(self) -> list[tuple[str, str]]:
        """Returns the events, each with its status."""
        return [(it[0], str(it[1])) for it in self.seen]

    def last(self, event: str) -> tuple[Any, ...]:
        return next(it for it in reversed(self.seen) if it[0] == event)


class Broken(Recorder):
    """Fails at everything."""

    def __getattribute__(self, name: str) -> Any:
        if name in {"enqueued", "started", "slow", "ended", "dropped"}:
            raise RuntimeError("this observer is broken")
        return super().__getattribute__(name)
