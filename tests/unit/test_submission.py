"""How executions of each backend are submitted."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from rail_async_tasks.backends.broker import BrokerBackend
from rail_async_tasks.backends.in_process import AsyncioBackend, SyncBackend, ThreadBackend
from rail_async_tasks.backends.port import Backend
from rail_async_tasks.hosting import process
from rail_async_tasks.hosting.submission import Inline, ToRuntime, submission_for
from rail_async_tasks.ids import new_id


class Post(BrokerBackend):
    """A project's own."""


@pytest.mark.parametrize(
    ("backend", "kind"),
    [(AsyncioBackend, ToRuntime), (ThreadBackend, ToRuntime), (Post, ToRuntime),
     (SyncBackend, Inline)],
)  # fmt: skip
def test_only_an_inline_backend_runs_in_its_caller(
    backend: Callable[[], Backend], kind: type[Any]
) -> None:
    assert type(submission_for(backend())) is kind


@pytest.mark.parametrize(
    ("backend", "in_thread"), [(AsyncioBackend, False), (Post, False), (ThreadBackend, True)]
)
async def test_the_runtime_starts_where_the_backend_has_it(
    monkeypatch: pytest.MonkeyPatch, backend: Callable[[], Backend], in_thread: bool
) -> None:
    """In the running loop, or in a thread."""
    asked = []

    async def aruntime(*, in_thread: bool) -> Any:
        asked.append(in_thread)
        raise RuntimeError("it does not start")

    monkeypatch.setattr(process, "aruntime", aruntime)
    new: Any = object()
    with pytest.raises(RuntimeError, match="does not start"):
        await submission_for(backend()).asubmit(new)
    assert asked == [in_thread]


def test_a_cancel_without_a_runtime_does_nothing() -> None:
    """No body runs in this process."""
    assert process.current() is None
    submission_for(AsyncioBackend()).cancel(new_id())
