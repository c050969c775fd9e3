"""Tasks for the tests of REST: one that ends, one that waits for the test, and others."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

from strawberry.permission import BasePermission
from strawberry.types import Info

from rail_async_tasks import task


@dataclass
class Gate:
    """Where `wait` waits until the test lets it go on."""

    started: asyncio.Event = field(default_factory=asyncio.Event)
    go: asyncio.Event = field(default_factory=asyncio.Event)
    info: Any = None

    def close(self) -> None:
        """For the next test, in its loop."""
        self.__init__()  # type: ignore[misc]


gate = Gate()


class StaffOnly(BasePermission):
    message = "Staff only."

    def has_permission(self, source: Any, info: Info, **kwargs: Any) -> bool:
        user = info.context.request.user
        return bool(user.is_staff) and user == info.context.user and "amount" in kwargs


class Curious(BasePermission):
    """Asks for what only GraphQL has."""

    def has_permission(self, source: Any, info: Info, **kwargs: Any) -> bool:
        return bool(info.selected_fields)


@task(name="rest.echo", max_retries=0)
async def echo(value: str = "", number: int = 0) -> Any:
    """Return the arguments."""
    return {"value": value, "number": number}


@task(name="rest.fall", max_retries=0)
async def fall() -> None:
    """Always fail."""
    raise ValueError("the data makes no sense")


@task(name="rest.wait", max_retries=0)
async def wait(info: Any, size: int = 0) -> str:
    """Report progress, then wait for the test. Return so many characters more."""
    gate.info = info
    info.context.task.update_progress(10, "waiting")
    gate.started.set()
    await gate.go.wait()
    return "done" + "x" * size


@task(name="rest.fall_later", max_retries=0)
async def fall_later(info: Any) -> None:
    """Wait for the test, then fail."""
    await wait(info)
    raise ValueError("a secret of the data")


@task(name="rest.restock", permission_classes=[StaffOnly], max_retries=0)
async def restock(amount: int) -> int:
    """For staff."""
    return amount


@task(name="rest.curious", permission_classes=[Curious], max_retries=0)
async def curious() -> None:
    """No one may start it over REST."""
