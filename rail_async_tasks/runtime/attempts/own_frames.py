"""Cuts the frames above a body out of a traceback: those of this package and of what it runs on.

A failure's traceback begins with some fifteen frames that called the body. The reader of a log, a
row or an error tracker looks for the body. Where the body is not in the traceback, the error is in
this package or in `around_task`, and every frame stays.
"""

from __future__ import annotations

from collections.abc import Iterator
from types import CodeType, TracebackType
from typing import Final

from rail_async_tasks.hooks import asks_to_end

# The packages of the frames between a runtime's task or thread and a body.
_OWN: Final = frozenset(
    ("rail_async_tasks", "anyio", "asgiref", "asyncio", "concurrent", "contextlib", "threading")
)


def cut_own_frames(error: BaseException, body: CodeType) -> None:
    """Cuts them out of the error's traceback, and out of those of its causes and contexts.

    Frames of the project's own above the body stay: what `around_task` enters around it. So do all
    frames below its first line, whose ever they are.
    """
    try:
        for it in _chain(error):
            frames = [*_frames(it.__traceback__)]
            codes = [frame.tb_frame.f_code for frame in frames]
            if body in codes:
                BaseException.with_traceback(it, _linked(_without_own(frames, codes.index(body))))
    except BaseException as raised:  # the error's attributes are properties of the project's own
        if asks_to_end(raised):
            raise


def _chain(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    todo: list[BaseException | None] = [error]
    while todo:
        it = todo.pop()
        if it is not None and id(it) not in seen:
            seen.add(id(it))
            yield it
            todo += [it.__cause__, it.__context__]


def _frames(trace: TracebackType | None) -> Iterator[TracebackType]:
    while trace is not None:
        yield trace
        trace = trace.tb_next


def _without_own(frames: list[TracebackType], body: int) -> list[TracebackType]:
    above, below = frames[:body], frames[body:]
    # The body of a Django task is a function of this package, which calls the project's.
    first = next((number for number, it in enumerate(below) if not _is_own(it)), 0)
    return [*(it for it in above if not _is_own(it)), *below[first:]]


def _is_own(trace: TracebackType) -> bool:
    module = str(trace.tb_frame.f_globals.get("__name__"))
    return module.partition(".")[0] in _OWN


def _linked(frames: list[TracebackType]) -> TracebackType | None:
    trace: TracebackType | None = None
    for it in reversed(frames):
        trace = TracebackType(trace, it.tb_frame, it.tb_lasti, it.tb_lineno)
    return trace
