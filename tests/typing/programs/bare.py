"""Root and info without annotations: every argument and the result are known all the same."""

# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

from typing import Any, assert_type

from rail_async_tasks import TaskHandle, task, task_mutation


@task(name="bare.report")
async def report(root, info, number: int, text: str = "") -> dict[str, Any]:
    info.context.task.update_progress(50, text)
    return {"number": number}


@task_mutation
def resize(info, width: int) -> str:
    info.context.task.raise_if_cancelled()
    return str(width)


def starts() -> None:
    assert_type(report.enqueue(1, "one"), TaskHandle[dict[str, Any]])
    assert_type(report.using(delay=1).enqueue(number=1), TaskHandle[dict[str, Any]])
    assert_type(resize.enqueue(3).result(), str)
    report.enqueue("one")  # E: arg-type, reportArgumentType
    resize.enqueue(3, 4)  # E: call-arg, reportCallIssue


async def calls(info: Any) -> None:
    assert_type(await report(None, info, 1), dict[str, Any])
    assert_type(resize(info, 1), str)
