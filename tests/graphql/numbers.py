"""A mutation that takes any JSON value, for the tests of numbers."""

from __future__ import annotations

from typing import Any

import strawberry
from strawberry.scalars import JSON

from rail_async_tasks import task_mutation

seen: list[Any] = []


@task_mutation(name="numbers.keep")
async def keep(value: JSON) -> JSON:
    """Return the value."""
    seen.append(value)
    return value


@strawberry.type
class NumberMutations:
    keep = keep
