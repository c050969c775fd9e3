"""Results and exceptions whose own code raises, wherever something reads them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

# What ends a loop, a thread or a future that is not prepared for it, and an ordinary error.
ERRORS: Final[tuple[type[BaseException], ...]] = (
    KeyError, SystemExit, StopIteration, asyncio.CancelledError, GeneratorExit,
)  # fmt: skip


def _falls(error: type[BaseException]) -> Any:
    def fall(*args: Any, **keywords: Any) -> Any:
        raise error("rude")

    return fall


# --- results -------------------------------------------------------------------------------------


def mapping(error: type[BaseException]) -> Any:
    """Its keys can't be read."""

    class Rude(Mapping[str, int]):
        __getitem__ = __iter__ = __len__ = _falls(error)

    return Rude()


def sequence(error: type[BaseException]) -> Any:
    """Its items can't be read."""

    class Rude(list[int]):
        def __iter__(self) -> Iterator[int]:
            raise error("rude")

    return Rude([1])


def field(error: type[BaseException]) -> Any:
    """A field of it is a property."""

    @dataclass
    class Rude:
        number: int

        def __getattribute__(self, name: str) -> Any:
            if name == "number":
                raise error("rude")
            return super().__getattribute__(name)

    return Rude(1)


RESULTS: Final[dict[str, Callable[[type[BaseException]], Any]]] = {
    it.__name__: it for it in (mapping, sequence, field)
}


# --- exceptions ----------------------------------------------------------------------------------


def text(error: type[BaseException]) -> BaseException:
    """It has no text."""

    class Rude(Exception):
        __str__ = __repr__ = _falls(error)

    return Rude()


def string(error: type[BaseException]) -> BaseException:
    """Its text is a string with code of its own."""

    class Text(str):
        __slots__ = ()
        __bool__ = __len__ = __format__ = __str__ = _falls(error)  # type: ignore[assignment]

    class Rude(Exception):
        def __str__(self) -> str:
            return Text("rude")

    return Rude()


def cause(error: type[BaseException]) -> BaseException:
    """Its cause is a property."""

    class Rude(Exception):
        __cause__ = property(_falls(error))  # type: ignore[assignment]

    return Rude()


def class_(error: type[BaseException]) -> BaseException:
    """Whether it is of a class can't be asked."""

    class Rude(Exception):
        __class__ = property(_falls(error))  # type: ignore[assignment]

    return Rude()


def name(error: type[BaseException]) -> BaseException:
    """The name of its class can't be read."""

    class Meta(type):
        __name__ = property(_falls(error))  # type: ignore[assignment]

    class Rude(Exception, metaclass=Meta): ...

    return Rude()


def cancelled(error: type[BaseException]) -> BaseException:
    """It is a `CancelledError` too."""

    class Rude(asyncio.CancelledError):
        __class__ = property(_falls(error))  # type: ignore[assignment]
        __str__ = __repr__ = _falls(error)

    return Rude()


EXCEPTIONS: Final[dict[str, Callable[[type[BaseException]], BaseException]]] = {
    it.__name__: it for it in (text, string, cause, class_, name, cancelled)
}
