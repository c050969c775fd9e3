"""The object that a declaration makes: starts by position, direct calls, introspection."""

from __future__ import annotations

import inspect
import pydoc
from types import SimpleNamespace
from typing import Any

import pytest
from asgiref.sync import iscoroutinefunction
from django.template import Context, Engine

from rail_async_tasks import BoundTask, InvalidArguments, Task, TaskHandle, TaskInfo
from rail_async_tasks.declaration.definition import define


async def report(root: Any, info: Any, dataset: str, pages: int = 1, *, color: str = "red") -> str:
    """Generate a report."""
    return f"{dataset} {pages} {color} {info.context.task.name}"


def resize(info: Any, width: int) -> int:
    """Resize a picture."""
    return width + int(info.extra)


def nothing() -> str:
    return "done"


REPORT: Task = Task(define(report))
RESIZE: Task = Task(define(resize))
NOTHING: Task = Task(define(nothing))


@pytest.mark.parametrize(
    ("args", "kwargs", "named"),
    [
        (("a",), {}, {"dataset": "a"}),
        (("a", 2), {}, {"dataset": "a", "pages": 2}),
        (("a",), {"pages": 2, "color": "blue"}, {"dataset": "a", "pages": 2, "color": "blue"}),
        ((), {"dataset": "a"}, {"dataset": "a"}),
    ],
)
def test_arguments_by_position(args: Any, kwargs: Any, named: Any) -> None:
    """They are the function's own, in its order, without root and info."""
    assert REPORT.definition.codec.named(args, kwargs) == named


@pytest.mark.parametrize(
    ("task", "args", "kwargs", "message"),
    [
        (
            REPORT,
            ("a", 2, "blue"),
            {},
            r"'report' takes 2 arguments by position \(dataset, pages\), not 3; leave root",
        ),
        (REPORT, ("a",), {"dataset": "b"}, "'dataset' of task 'report' is given twice"),
        (NOTHING, (None,), {}, "'nothing' takes 0 arguments by position, not 1; leave root"),
    ],
)
def test_a_call_that_does_not_fit(task: Task, args: Any, kwargs: Any, message: str) -> None:
    """Nothing is lost or overwritten: the start is refused, with the names."""
    with pytest.raises(InvalidArguments, match=message):
        task.enqueue(*args, **kwargs)


async def test_a_call_runs_the_function() -> None:
    """With root and info, of whatever kind: a test of a body needs no runtime."""
    info = SimpleNamespace(context=SimpleNamespace(task=SimpleNamespace(name="it")), extra=1)
    assert await REPORT(None, info, "a", 2, color="blue") == "a 2 blue it"
    assert RESIZE(info, width=2) == 3
    assert NOTHING() == "done"


def test_a_task_is_a_coroutine_function_where_its_function_is() -> None:
    """For what asks before it calls: `async_to_sync`, Starlette, pytest plugins."""
    assert iscoroutinefunction(REPORT)
    assert not iscoroutinefunction(RESIZE)


def test_a_task_has_the_functions_signature_and_text() -> None:
    """`inspect.signature()`, `__wrapped__`, `__doc__`, and `help()` with both."""
    assert inspect.signature(REPORT) == inspect.signature(report)
    assert REPORT.__signature__ == inspect.signature(report)
    assert REPORT.__wrapped__ is report
    assert (REPORT.__doc__, REPORT.__name__) == ("Generate a report.", "report")
    shown = " ".join(pydoc.plain(pydoc.render_doc(REPORT)).split())
    assert "root: 'Any', info: 'Any', dataset: 'str', pages: 'int' = 1" in shown
    assert "Generate a report." in shown


def test_a_task_as_an_attribute_is_itself() -> None:
    """It is no method of the class, nor of its instances."""

    class Holder:
        nothing = NOTHING

    assert Holder.nothing is Holder().nothing is NOTHING


def test_a_template_does_not_run_a_body() -> None:
    """Templates call what they can; `{{ task.name }}` shows a task."""
    template = Engine().from_string("{{ task.name }} {{ task }}")
    assert template.render(Context({"task": NOTHING}, autoescape=False)) == "nothing <Task nothing>"


def test_annotations_may_be_evaluated() -> None:
    """Without `from __future__ import annotations` too, with parameters and without."""
    for written in (Task[[int], str], Task[..., Any], BoundTask[[int], str], TaskHandle[str]):
        assert written
    assert inspect.isclass(TaskInfo)
