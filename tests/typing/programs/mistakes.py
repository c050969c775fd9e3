"""Lines that must be errors: mypy's code, then pyright's rule."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from rail_async_tasks import TaskHandle, TaskInfo, task, task_mutation


@task
async def report(root: Any, info: TaskInfo, number: int, text: str = "") -> str:
    return text * number


@task_mutation(name="mistakes.resize", queue="low")
def resize(info: TaskInfo, width: int, *, height: int) -> int:
    return width * height


def starts() -> None:
    report.enqueue()  # E: call-arg, reportCallIssue
    report.enqueue("1")  # E: arg-type, reportArgumentType
    report.enqueue(number="1")  # E: arg-type, reportArgumentType
    report.enqueue(1, "one", 3)  # E: call-arg, reportCallIssue
    report.enqueue(numbr=1)  # E: call-arg, reportCallIssue
    report.enqueue(1, number=1)  # E: misc, reportCallIssue
    report.enqueue(None, None, 1)  # E: call-arg arg-type, reportCallIssue
    resize.enqueue(1, 2)  # E: call-arg, reportCallIssue
    resize.enqueue(1, height=2.5)  # E: arg-type, reportArgumentType
    report.delay(1)  # E: attr-defined, reportAttributeAccessIssue


def usings() -> None:
    report.using(queue="low").enqueue("1")  # E: arg-type, reportArgumentType
    report.using(queue=3)  # E: arg-type, reportArgumentType
    report.using(que="low")  # E: call-arg, reportCallIssue
    report.using(run_after="tomorrow")  # E: arg-type, reportArgumentType
    report.using(run_after=datetime.now(), delay="1")  # E: arg-type, reportArgumentType


def results() -> None:
    number: int = report.enqueue(1).result()  # E: assignment, reportAssignmentType
    handle: TaskHandle[int] = report.enqueue(1)  # E: assignment, reportAssignmentType
    report.enqueue(1).result("5")  # E: arg-type, reportArgumentType
    del number, handle


async def results_of_async() -> None:
    number: int = await (await report.aenqueue(1)).aresult()  # E: assignment, reportAssignmentType
    _ = report.aenqueue(1).id  # E: attr-defined, reportAttributeAccessIssue
    await report.aenqueue("1")  # E: arg-type, reportArgumentType
    del number


async def calls(info: TaskInfo) -> None:
    await report(1)  # E: call-arg, reportCallIssue
    await report(None, info, "1")  # E: arg-type, reportArgumentType
    await report(None, "info", 1)  # E: arg-type, reportArgumentType
    await resize(info, 1, height=2)  # E: misc, reportGeneralTypeIssues
    resize(info, "1", height=2)  # E: arg-type, reportArgumentType


task(retries=3)  # E: call-overload, reportCallIssue
task(queue=3)  # E: call-overload, reportArgumentType
task_mutation(cron="0 3 * * *")  # E: call-overload, reportCallIssue
task("report")  # E: call-overload, reportArgumentType reportCallIssue
