"""The functions that can be tasks, as type checkers see them: by the names of leading parameters.

The names decide at run time too. Types could not decide: an `info` without an annotation is `Any`
for a checker, and so is an argument that takes any JSON.
"""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any, ParamSpec, Protocol, TypeAlias, TypeVar

P = ParamSpec("P")
R = TypeVar("R")
RootT = TypeVar("RootT")
InfoT = TypeVar("InfoT")
# What a call of an `async def` returns.
Async: TypeAlias = Coroutine[Any, Any, R]

Root_contra = TypeVar("Root_contra", contravariant=True)
Info_contra = TypeVar("Info_contra", contravariant=True)
Called_co = TypeVar("Called_co", covariant=True)


class WithRootAndInfo(Protocol[Root_contra, Info_contra, P, Called_co]):
    """A function `(root, info, ...)`; `P` is the rest of its signature."""

    def __call__(
        self, root: Root_contra, info: Info_contra, *args: P.args, **kwargs: P.kwargs
    ) -> Called_co: ...


class WithInfo(Protocol[Info_contra, P, Called_co]):
    """A function `(info, ...)`; `P` is the rest of its signature."""

    def __call__(self, info: Info_contra, *args: P.args, **kwargs: P.kwargs) -> Called_co: ...
