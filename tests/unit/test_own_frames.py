"""Cutting frames out of tracebacks: whose they are, and which errors have any."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from rail_async_tasks.runtime.attempts.own_frames import cut_own_frames
from tests.support import rude


class Sealed(Exception):
    """An error that lets nothing be set."""

    @property
    def __cause__(self) -> BaseException:  # type: ignore[override]
        raise RuntimeError("no")


def test_an_error_that_can_not_be_read_stays_as_it_is() -> None:
    """The failure is stored all the same."""

    def body() -> None:
        raise Sealed

    with pytest.raises(Sealed) as raised:
        body()
    cut_own_frames(raised.value, body.__code__)
    for error in rude.ERRORS:
        cut_own_frames(rude.cause(error), body.__code__)


def test_a_decorator_of_contextlib_is_no_body_of_its_own() -> None:
    """`@transaction.atomic` is one: the frame of its wrapper is of no use."""

    @contextmanager
    def entered() -> Iterator[None]:
        yield

    @entered()
    def decorated() -> None:
        raise KeyError("no")

    with pytest.raises(KeyError) as raised:
        decorated()
    cut_own_frames(raised.value, decorated.__code__)
    trace, names = raised.value.__traceback__, []
    while trace is not None:
        names.append(trace.tb_frame.f_code.co_name)
        trace = trace.tb_next
    # The test called it: a frame of the project's, as an `around_task` is.
    assert names == ["test_a_decorator_of_contextlib_is_no_body_of_its_own", "decorated"]


def test_errors_that_go_round_in_a_circle() -> None:
    """Causes and contexts may; each is cut once."""

    def body() -> None:
        raise KeyError("no")

    with pytest.raises(KeyError) as raised:
        body()
    other = ValueError()
    raised.value.__context__, other.__cause__ = other, raised.value
    cut_own_frames(other, body.__code__)
    assert raised.value.__traceback__ is not None
