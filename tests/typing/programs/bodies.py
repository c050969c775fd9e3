"""The `info` of a body: its names are known, and a misspelt one is an error."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, assert_type
from uuid import UUID

from django.contrib.auth.base_user import AbstractBaseUser
from django.contrib.auth.models import AnonymousUser

from rail_async_tasks import TaskInfo, task


async def pages() -> AsyncIterator[str]:
    yield "one"


@task
async def body(root: Any, info: TaskInfo) -> None:
    running = info.context.task
    assert_type(running.id, UUID)
    assert_type(running.name, str)
    assert_type(running.attempt, int)
    assert_type(running.queue, str)
    assert_type(running.cancel_requested, bool)
    running.update_progress(50)
    running.update_progress(12.5, "Reading")
    running.raise_if_cancelled()
    for number in running.track([1, 2], total=2, message="Reading"):
        assert_type(number, int)

    async for page in running.track(pages()):
        assert_type(page, str)
    assert_type(info.context.user, AbstractBaseUser | AnonymousUser)
    assert_type(info.context.tenant_id, str | None)

    running.update_progress("50")  # E: arg-type, reportArgumentType
    running.update_progres(50)  # E: attr-defined, reportAttributeAccessIssue
    running.attempt = "first"  # E: assignment, reportAttributeAccessIssue
    _ = info.context.request  # E: attr-defined, reportAttributeAccessIssue
    _ = info.user  # E: attr-defined, reportAttributeAccessIssue
