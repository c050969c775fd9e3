"""Progress over the items of a loop: what `info.context.task.track()` returns."""

from __future__ import annotations

import math
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator, Iterator
from typing import Any, Final, Protocol, TypeVar

from django.core.exceptions import SynchronousOnlyOperation
from django.core.paginator import Paginator
from django.db.models import QuerySet

from rail_async_tasks.runtime.attempts.progress import shown

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)

_ON_LOOP: Final = (
    "`for` over track(...) queried the database on the event loop. Loop over a QuerySet by"
    " `async for`, with .aiterator() in place of .iterator(); or make the task a plain def."
)


class Loopable(Protocol[T_co]):
    """An iterable for both `for` and `async for`, as a QuerySet is."""

    def __iter__(self) -> Iterator[T_co]: ...
    def __aiter__(self) -> AsyncIterator[T_co]: ...


def check_total(total: Any) -> None:
    """Raise `ValueError` unless `total` is a finite number from 0 up."""
    try:
        valid = bool(total >= 0) and _is_finite(total)
    except (TypeError, ValueError, ArithmeticError):  # no number, or a signaling NaN
        valid = False
    if not valid:
        raise ValueError(
            f"total must be a number from 0 up, not {shown(total)};"
            " leave it out where it is unknown"
        )


def _is_finite(number: Any) -> bool:
    try:
        return math.isfinite(number)
    except OverflowError:  # an integer past what a float holds
        return True


class Tracked(Iterator[T], AsyncIterator[T]):
    """The items of an iterable, each reported once the next one is asked for.

    How it is used decides: `for` loops over the iterable's own `__iter__`, `async for` over its
    `__aiter__`. It keeps no generator of its own: a loop that is left early drops the iterable's
    iterator, as it would without `track()`.
    """

    def __init__(
        self,
        iterable: Any,
        total: float | None,
        report: Callable[[int], None],
        raise_if_cancelled: Callable[[], None],
    ) -> None:
        self._iterable = iterable
        self._total = total
        self._report = report
        self._raise_if_cancelled = raise_if_cancelled
        self._count = 0  # items that were handed out
        self._items: Any = None  # the iterable's iterator, from the first step on

    # --- for -------------------------------------------------------------------------------------

    def __next__(self) -> T:
        try:
            if self._items is None:
                self._require("__iter__", "for", "async for")
                self._raise_if_cancelled()
                if self._total is None:
                    self._total = _count(self._iterable)
                self._items = iter(self._iterable)
            try:
                self._step()
            except BaseException:
                self.close()
                raise
            item: T = next(self._items)
        except SynchronousOnlyOperation as error:
            raise SynchronousOnlyOperation(_ON_LOOP) from error
        self._count += 1
        return item

    def close(self) -> None:
        """Close the generator that is looped over, if it is one. For `contextlib.closing()`."""
        if isinstance(self._items, Generator):
            self._items.close()

    # --- async for -------------------------------------------------------------------------------

    async def __anext__(self) -> T:
        if self._items is None:
            self._require("__aiter__", "async for", "for")
            self._raise_if_cancelled()
            if self._total is None:
                self._total = await _acount(self._iterable)
            self._items = aiter(self._iterable)
        try:
            self._step()
        except BaseException:
            await self.aclose()
            raise
        item: T = await anext(self._items)
        self._count += 1
        return item

    async def aclose(self) -> None:
        """Close the generator that is looped over, if it is one. For `contextlib.aclosing()`."""
        if isinstance(self._items, AsyncGenerator):
            await self._items.aclose()

    # --- both ------------------------------------------------------------------------------------

    def _require(self, method: str, used: str, other: str) -> None:
        kind = type(self._iterable)
        if not hasattr(kind, method):
            if other == "async for" and not hasattr(kind, "__aiter__"):
                return  # `iter()` knows the older protocol, and has a message for the rest
            if hasattr(kind, "__iter__") or hasattr(kind, "__aiter__"):
                way_out = f"write `{other}`"
            elif hasattr(kind, "all"):
                way_out = "write `.all()` behind it"
            else:
                way_out = "it has no items"
            raise TypeError(f"`{used}` cannot loop over track() of {kind.__name__}; {way_out}.")

    def _step(self) -> None:
        """Report the items so far, and end the loop here if the attempt was asked to end."""
        self._report(int(min(100, 100 * self._count // self._total)) if self._total else 0)
        self._raise_if_cancelled()


def _count(iterable: Any) -> int | None:
    if isinstance(iterable, QuerySet):
        return iterable.count()
    if isinstance(iterable, Paginator):
        return iterable.num_pages
    return _length(iterable)


async def _acount(iterable: Any) -> int | None:
    if isinstance(iterable, QuerySet):
        return await iterable.acount()
    if hasattr(iterable, "anum_pages"):  # AsyncPaginator, of Django 6
        pages: int = await iterable.anum_pages()
        return pages
    return _length(iterable)


def _length(iterable: Any) -> int | None:
    try:
        return len(iterable)
    except (TypeError, NotImplementedError, OverflowError):  # has none, or no machine-sized one
        return None
