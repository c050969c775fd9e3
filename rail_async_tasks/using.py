"""The options of one start: what `.using()` takes, and what the service gets."""

from __future__ import annotations

import difflib
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, TypedDict
from uuid import UUID

from rail_async_tasks.access import as_id, user_id_of
from rail_async_tasks.errors import InvalidArguments

if TYPE_CHECKING:
    from rail_async_tasks.service import EnqueueOptions


# What options of other task libraries are here.
_ELSEWHERE: Final = {
    "countdown": "write delay=..., in seconds or as a timedelta.",
    "eta": "write run_after=..., an aware datetime.",
    "schedule_at": "write run_after=..., an aware datetime.",
    "user": "write owner=..., a user or their primary key.",
    "time_limit": "write @task(timeout=...), in seconds.",
    "retries": "write @task(max_retries=...).",
}


class UsingKeywords(TypedDict, total=False):
    """The options of one start."""

    queue: str | None
    priority: int | None
    run_after: datetime | None
    delay: float | timedelta | None
    unique_key: str | None
    owner: Any
    tenant_id: str | None


def known(keywords: UsingKeywords) -> UsingKeywords:
    """Returns the keywords. Raises for a misspelt one: a lost `owner` would make a task public."""
    for name in keywords:
        if name not in UsingKeywords.__annotations__:
            close = difflib.get_close_matches(name, UsingKeywords.__annotations__, n=1)
            hint = f"did you mean {close[0]!r}?" if close else ""
            hint = _ELSEWHERE.get(name, hint)
            names = ", ".join(UsingKeywords.__annotations__)
            raise TypeError(f"using() takes no {name!r}; {hint or f'it takes {names}.'}")
    return keywords


def enqueue_options(keywords: UsingKeywords) -> EnqueueOptions:
    """Returns the service's form of the keywords. Raises `InvalidArguments` for a wrong owner."""
    from rail_async_tasks.service import AS_DECLARED, EnqueueOptions

    if not keywords:
        return AS_DECLARED
    delay = keywords.get("delay")
    return EnqueueOptions(
        queue=keywords.get("queue"),
        priority=keywords.get("priority"),
        run_after=keywords.get("run_after"),
        delay=delay.total_seconds() if isinstance(delay, timedelta) else delay,
        unique_key=keywords.get("unique_key"),
        owner_id=_owner_id(keywords.get("owner")),
        tenant_id=as_id(keywords.get("tenant_id")),
    )


def _owner_id(owner: Any) -> str | None:
    """Returns the id of a user or of a primary key; None for None and `AnonymousUser`."""
    if isinstance(owner, (str, int, UUID)) and not isinstance(owner, bool) and owner != "":
        return str(owner)
    if owner is None or getattr(owner, "is_anonymous", False) is True:
        return None
    found = user_id_of(owner)
    if found is None:
        raise InvalidArguments(
            f"owner must be a saved user or their primary key, not {type(owner).__name__}."
        )
    return found
