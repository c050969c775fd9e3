"""Calls of bodies: a call that does not fit is no error inside the body."""

from __future__ import annotations

from typing import Any

import pytest

from rail_async_tasks.declaration.definition import define
from rail_async_tasks.errors import InvalidArguments
from rail_async_tasks.runtime.attempts.calling import NotCalled, call, decode


def plain(n: int) -> int:
    return n + 1


async def coroutine(n: int) -> int:
    return n + 1


def inner_misfit(n: int) -> int:
    return plain(n, n)  # type: ignore[call-arg]


@pytest.mark.parametrize("function", [plain, coroutine])
def test_a_call_that_does_not_fit(function: Any) -> None:
    """Also of a coroutine function, whose body is yet to run."""
    with pytest.raises(NotCalled) as info:
        call(function, (), {"m": 1})
    assert isinstance(info.value.error, TypeError)


@pytest.mark.parametrize(("function", "n"), [(inner_misfit, 1), (plain, "one")])
def test_a_type_error_of_the_body_passes(function: Any, n: Any) -> None:
    """A wrong call that the body makes, a wrong operand."""
    with pytest.raises(TypeError):
        call(function, (), {"n": n})


def test_arguments_that_do_not_decode() -> None:
    """The cause is the refusal, which names the argument."""
    with pytest.raises(NotCalled) as info:
        decode(define(plain, name="calling.plain"), '{"n": "one"}')
    assert isinstance(info.value.error, InvalidArguments)
    assert decode(define(plain, name="calling.plain"), '{"n": 1}') == {"n": 1}
