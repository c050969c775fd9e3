"""Tasks and fields that break while they hold what they were given."""

from __future__ import annotations

from typing import Any

import strawberry
from strawberry.permission import BasePermission
from strawberry.scalars import JSON

from rail_async_tasks import task_mutation


class Breaks(BasePermission):
    def has_permission(self, source: Any, info: Any, **kwargs: Any) -> bool:
        raise RuntimeError("the permission class broke")


@task_mutation(name="spills.raise", max_retries=0)
async def spill(text: str) -> None:
    """Quote its argument in its exception."""
    raise ValueError(f"no such text: {text}")


@task_mutation(name="spills.guarded", permission_classes=[Breaks])
async def guarded(text: str) -> None:
    """Never start."""


@task_mutation(name="spills.sealed", sensitive=["text"])
async def sealed(info: Any, text: str) -> JSON:
    """Give its secret argument back."""
    info.context.task.update_progress(50, "half")
    return {"text": text}


@strawberry.type
class Mutations:
    """All of them."""

    spill = spill
    guarded = guarded
    sealed = sealed


@strawberry.type
class Query:
    """Fields of the project's own."""

    @strawberry.field
    def echo(self, text: str) -> int:
        """Break."""
        raise RuntimeError("the resolver broke")

    @strawberry.field
    def wrong(self, text: str) -> int:
        """Return what is no number."""
        return text  # type: ignore[return-value]
