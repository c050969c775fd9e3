"""Notices: by them a process wakes others through the database that they share.

A notice may be lost, and then costs time, never a task: what it announces is in the rows, which
every process reads again by itself.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from typing import Protocol, TypeAlias
from uuid import UUID

import msgspec


class Notice(StrEnum):
    """What other processes may have to look at."""

    DUE = "due"  # rows are due that their process can't run now
    QUEUES = "queues"  # a queue was paused or resumed
    CANCELS = "cancels"  # a cancel was asked for, of an execution that runs


# Is called on the loop with a notice of another process; CANCELS have the execution's id.
OnNotice: TypeAlias = Callable[[Notice, UUID | None], None]


class Envelope(msgspec.Struct, frozen=True, array_like=True):
    """A notice on its way: who has sent it, what it is, and the execution of a cancel."""

    sender: UUID
    notice: str
    execution_id: UUID | None = None


_decoder = msgspec.json.Decoder(Envelope)


def encode(envelope: Envelope) -> str:
    """Returns the text of a notice: less than 200 characters."""
    return msgspec.json.encode(envelope).decode()


def decode(text: bytes) -> Envelope | None:
    """Returns the notice of that text; None for anything else that may be sent there."""
    try:
        return _decoder.decode(text)
    except msgspec.MsgspecError:
        return None


class Notices(Protocol):
    """Notices to and from other processes. On the runtime's loop."""

    @property
    def heard(self) -> bool:
        """Returns whether notices of other processes arrive here now."""
        ...

    async def run(self, on_notice: OnNotice) -> None:
        """Listens until it is cancelled; returns at once where notices can't be had."""
        ...

    async def send(self, notice: Notice) -> None:
        """Sends a notice in a transaction of its own. Raises the database's errors."""
        ...
