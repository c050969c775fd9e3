"""Tasks with arguments of every kind, for the form and for what a page offers to copy."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from decimal import Decimal
from enum import Enum
from typing import Annotated, Any, Literal, Optional
from uuid import UUID

import strawberry
from strawberry.permission import BasePermission
from strawberry.scalars import JSON

from rail_async_tasks import task


@strawberry.enum
class Paper(Enum):
    """An enum whose values are not its names."""

    A4 = "a four"
    LETTER = "letter"


@strawberry.input
class Line:
    """An input type."""

    sku: str
    count: int = 1


@task(name="form.every_kind")
def every_kind(
    title: str,
    copies: int,
    ratio: float,
    price: Decimal,
    key: UUID,
    at: datetime,
    day: date,
    pause: timedelta,
    paper: Paper,
    mode: Literal["fast", "slow", 3],
    draft: bool,
    lines: list[Line],
    extra: JSON,
    note: Optional[str] = None,  # noqa: UP045 - as projects write it
    limit: int | None = 7,
    label: Annotated[str, strawberry.argument(description="A label.")] = "none",
) -> dict[str, Any]:
    """Takes one of each.

    Made for the form of a task's page.
    """
    return {"title": title, "copies": copies, "lines": len(lines)}


@task(name="form.secret", sensitive=["card"])
def secret(amount: int, card: str, hint: str = "h") -> int:
    """Has a sensitive argument."""
    return amount


@task(name="form.maybe")
def maybe(name: strawberry.Maybe[str], tags: list[str] | None = None, any_: Any = None) -> None:
    """Has an argument that may be absent."""


class OnlyAnn(BasePermission):
    """Lets one user start a task, with a positive number."""

    message = "Only Ann may, and with a positive number."

    def has_permission(self, source: Any, info: Any, **kwargs: Any) -> bool:
        return info.context.user.get_username() == "ann" and kwargs["number"] > 0


@task(name="form.guarded", permission_classes=[OnlyAnn])
def guarded(number: int) -> int:
    """Asks who starts it."""
    return number


@task(name="form.unique", unique=True)
def unique(number: int) -> int:
    """One unfinished one per number."""
    return number
