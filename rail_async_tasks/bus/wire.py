"""What a process tells others of an execution: how far it has come, and nothing of its content."""

from __future__ import annotations

from typing import Annotated, Any, Final
from uuid import UUID

import msgspec

from rail_async_tasks.snapshot import TaskSnapshot
from rail_async_tasks.text import MAX_MESSAGE_BYTES, is_storable

# No news are longer than this in bytes; in JSON a character of a text may take six.
MAX_BYTES: Final = 6 * MAX_MESSAGE_BYTES + 1024


class News(msgspec.Struct, frozen=True, kw_only=True, gc=False, omit_defaults=True):
    """One execution's version, with the progress that belongs to it.

    Where `step` is 0 the state has changed: to what, the row says. `v` is that of this format.
    """

    v: Annotated[int, msgspec.Meta(ge=1, le=1)]
    by: UUID  # the sender: a process knows its own news
    id: UUID
    seq: Annotated[int, msgspec.Meta(ge=1, le=2**31 - 1)]
    step: Annotated[int, msgspec.Meta(ge=0, le=2**31 - 1)] = 0
    progress: Annotated[int, msgspec.Meta(ge=0, le=100)] = 0
    message: Annotated[str, msgspec.Meta(max_length=MAX_MESSAGE_BYTES)] | None = None

    @property
    def version(self) -> tuple[int, int]:
        return (self.seq, self.step)


VERSION: Final = 1

_decoder: Final = msgspec.json.Decoder(News)
_encoder: Final = msgspec.json.Encoder()


def news_of(snapshot: TaskSnapshot, sender: UUID) -> News:
    """What others hear of a snapshot."""
    if snapshot.step == 0:
        return News(v=VERSION, by=sender, id=snapshot.id, seq=snapshot.seq)
    return News(
        v=VERSION,
        by=sender,
        id=snapshot.id,
        seq=snapshot.seq,
        step=snapshot.step,
        progress=snapshot.progress,
        message=snapshot.progress_message,
    )


def encode(news: News) -> bytes:
    """The news as JSON."""
    return _encoder.encode(news)


def decode(data: Any) -> News | None:
    """The news; None for what is none, or of another format, or too long."""
    if not isinstance(data, bytes) or len(data) > MAX_BYTES:
        return None
    try:
        news = _decoder.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    if news.message is not None and not is_storable(news.message):
        return None
    return news


def applied(snapshot: TaskSnapshot, news: News) -> TaskSnapshot | None:
    """The snapshot with newer progress of the same state; None where the news are no such thing."""
    if news.seq != snapshot.seq or news.step <= snapshot.step or snapshot.is_final:
        return None
    return msgspec.structs.replace(
        snapshot, step=news.step, progress=news.progress, progress_message=news.message
    )
