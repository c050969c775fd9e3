"""Tasks and types that the tests put into the schema."""

from __future__ import annotations

import asyncio
import enum
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any
from uuid import UUID

import strawberry
from strawberry.permission import BasePermission
from strawberry.types import Info

from rail_async_tasks import QueueFull, task, task_mutation


class Size(enum.Enum):
    SMALL = "s"
    LARGE = "l"


@strawberry.input
class Box:
    width: int
    label: str | None = strawberry.UNSET


strawberry.enum(Size)


@task_mutation
async def add(root: Any, info: Any, a: int, b: int = 2) -> int:
    """Add two numbers."""
    return a + b


@task_mutation(name="shop.pack", description="Pack a box.")
async def pack(info: Any, box: Box, size: Size = Size.SMALL, order: UUID | None = None) -> Any:
    """Not this text."""
    return {
        "width": box.width,
        "label": None if box.label is strawberry.UNSET else box.label,
        "unset": box.label is strawberry.UNSET,
        "size": size.name,
        "order": str(order),
    }


@task_mutation
async def climb(info: Any, steps: int, pause: float = 0.0, seen: str = "") -> str:
    """Report progress step by step. With the folder `seen`, each step waits for a file there."""
    # Settings import this module, before there are models.
    from tests.support.waiting import eventually

    for step in range(steps):
        info.context.task.update_progress(100 * (step + 1) // (steps + 1), f"step {step + 1}")
        if seen:
            await eventually(
                (Path(seen) / f"step {step + 1}").exists, f"step {step + 1} was unseen"
            )
        await asyncio.sleep(pause)
    return "top"


@task_mutation
async def wander(info: Any, pause: float) -> None:
    """Report another percentage after each pause, until it is cancelled, or for very long."""
    for step in range(3000):
        info.context.task.update_progress(step % 98 + 1, f"step {step}")
        await asyncio.sleep(pause)


@task_mutation(max_retries=0)
async def fall() -> None:
    raise RuntimeError("it broke")


@task_mutation
async def whoami(info: Any) -> Any:
    user = info.context.user
    return {"user": user.get_username(), "tenant": info.context.tenant_id}


class IsStaff(BasePermission):
    message = "Staff only."

    def has_permission(self, source: Any, info: Info, **kwargs: Any) -> bool:
        user = info.context.request.user
        return bool(user.is_staff) and "amount" in kwargs


@task_mutation(permission_classes=[IsStaff])
async def restock(amount: int) -> int:
    return amount


@task
async def sweep(shelf: str = "top") -> str:
    """A task that is no mutation."""
    return f"swept {shelf}"


@strawberry.type
class TaskMutations:
    add = add
    plus = add
    pack = pack
    climb = climb
    wander = wander
    fall = fall
    whoami = whoami
    restock = restock


@strawberry.type
class MoreMutations:
    add_again = add


@strawberry.type
class Queries:
    @strawberry.field
    async def broken(self) -> str:
        raise RuntimeError("secret: the password is hunter2")

    @strawberry.field
    async def full(self) -> str:
        raise QueueFull(retry_after=7)

    @strawberry.field
    async def shelves(self) -> int:
        return 3


@strawberry.type
class Subscriptions:
    @strawberry.subscription
    async def broken_stream(self) -> AsyncGenerator[int, None]:
        yield 1
        raise RuntimeError("secret: the password is hunter2")


@strawberry.type
class Clash:
    @strawberry.field
    async def tasks(self) -> int:
        return 0


@strawberry.type
class Renamed:
    """Clashes by its GraphQL name only."""

    @strawberry.field(name="brokenGlass")
    async def racks(self) -> int:
        return 0

    @strawberry.field
    async def broken_glass(self) -> int:
        return 0


@strawberry.type
class FollowClash:
    @strawberry.subscription
    async def task_progress(self) -> AsyncGenerator[int, None]:
        yield 1


@strawberry.type(name="TaskExecution")
class OtherExecution:
    id: int = 1


@strawberry.type
class SameType:
    other: OtherExecution | None = None


@strawberry.type
class Empty:
    pass


@strawberry.type
class WithEmpty:
    nothing: Empty | None = None


@strawberry.type
class WithNowhere:
    lost: Nowhere  # type: ignore[name-defined]  # noqa: F821


not_a_type = 3

SETTINGS = {
    "schema_settings": {
        "query_extensions": ["tests.projects.shop.Queries"],
        "mutation_extensions": [
            "tests.projects.shop.TaskMutations",
            "tests.projects.shop.MoreMutations",
        ],
        "subscription_extensions": ["tests.projects.shop.Subscriptions"],
    }
}
