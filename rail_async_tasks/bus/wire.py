"""The events between processes: an execution's version and progress, without its content."""

from __future__ import annotations

from typing import Annotated, Any, Final
from uuid import UUID

import msgspec

from rail_async_tasks.snapshot import TaskSnapshot
from rail_async_tasks.text import MAX_MESSAGE_BYTES, is_storable

# The longest event in bytes; in JSON a character of a text may take six.
MAX_BYTES: Final = 6 * MAX_MESSAGE_BYTES + 1024


class Event(msgspec.Struct, frozen=True, kw_only=True, gc=False, omit_defaults=True):
    """One execution's version, with the progress that belongs to it.

    A `step` of 0 means that the state has changed; the row has the new one.
    """

    v: Annotated[int, msgspec.Meta(ge=1, le=1)]  # of this format
    by: UUID  # the sender, which ignores its own events
    id: UUID
    seq: Annotated[int, msgspec.Meta(ge=1, le=2**31 - 1)]
    step: Annotated[int, msgspec.Meta(ge=0, le=2**31 - 1)] = 0
    progress: Annotated[int, msgspec.Meta(ge=0, le=100)] = 0
    message: Annotated[str, msgspec.Meta(max_length=MAX_MESSAGE_BYTES)] | None = None

    @property
    def version(self) -> tuple[int, int]:
        return (self.seq, self.step)


VERSION: Final = 1
_NO_EXECUTION: Final = UUID(int=0)

_decoder: Final = msgspec.json.Decoder(Event)
_encoder: Final = msgspec.json.Encoder()


def event_of(snapshot: TaskSnapshot, sender: UUID) -> Event:
    """Returns the event that announces a snapshot."""
    if snapshot.step == 0:
        return Event(v=VERSION, by=sender, id=snapshot.id, seq=snapshot.seq)
    return Event(
        v=VERSION,
        by=sender,
        id=snapshot.id,
        seq=snapshot.seq,
        step=snapshot.step,
        progress=snapshot.progress,
        message=snapshot.progress_message,
    )


def event_of_queues(sender: UUID) -> Event:
    """Returns the event that announces a pause, or its end: it belongs to no execution."""
    return Event(v=VERSION, by=sender, id=_NO_EXECUTION, seq=1)


def encode(event: Event) -> bytes:
    """Returns the event as JSON."""
    return _encoder.encode(event)


def decode(data: Any) -> Event | None:
    """Returns the event; None for data of another format, or too long."""
    if not isinstance(data, bytes) or len(data) > MAX_BYTES:
        return None
    try:
        event = _decoder.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    if event.message is not None and not is_storable(event.message):
        return None
    return event


def applied(snapshot: TaskSnapshot, event: Event) -> TaskSnapshot | None:
    """Returns the snapshot with the event's progress; None unless it is newer and of its state."""
    if event.seq != snapshot.seq or event.step <= snapshot.step or snapshot.is_final:
        return None
    return msgspec.structs.replace(
        snapshot, step=event.step, progress=event.progress, progress_message=event.message
    )
