"""Template tags: URLs of the pages, times, durations, bars."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

from django import template
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString

from rail_async_tasks.dashboard.counters import MOST
from rail_async_tasks.dashboard.words import duration as duration_text
from rail_async_tasks.ids import time_of
from rail_async_tasks.ledger.rows import in_utc
from rail_async_tasks.snapshot import TaskSnapshot

register = template.Library()

# In the place of a value that there is not.
NOTHING: Final = "\N{EN DASH}"
# Characters of a message or an error in a row of a list.
LINE: Final = 300


@register.simple_tag(takes_context=True)
def href(context: Any, name: str, *args: Any) -> str:
    """Returns the URL of a page of the dashboard: `{% href "task" task.id %}`."""
    return reverse(f"{context['namespace']}:{name}", args=args)


@register.filter
def moment(at: datetime | None) -> str | SafeString:
    """Returns `<time>` of an aware time; the script writes it in the reader's zone."""
    if at is None:
        return NOTHING
    at = in_utc(at).astimezone(UTC)
    return format_html(
        '<time datetime="{}">{}</time>', at.isoformat(), at.strftime("%Y-%m-%d %H:%M:%S UTC")
    )


@register.filter
def ago(at: datetime | None) -> str | SafeString:
    """`moment`, which the script writes as an age."""
    if at is None:
        return NOTHING
    at = in_utc(at).astimezone(UTC)
    return format_html(
        '<time datetime="{}" data-ago>{}</time>',
        at.isoformat(),
        at.strftime("%Y-%m-%d %H:%M:%S UTC"),
    )


@register.filter
def short(at: datetime) -> SafeString:
    """`moment` for the axis of a chart: the script writes the hour, or the day and the hour."""
    at = in_utc(at).astimezone(UTC)
    return format_html(
        '<time datetime="{}" data-short>{}</time>', at.isoformat(), at.strftime("%H:%M UTC")
    )


@register.filter
def number(count: int) -> str:
    """Returns a count as people read it."""
    return f"{count:,}"


@register.filter
def rate(per_minute: float) -> str:
    """Returns a rate as people read it: whole from 10 up."""
    return f"{per_minute:,.0f}" if per_minute >= 10 or not per_minute else f"{per_minute:.1f}"


@register.filter
def since(at: datetime | None) -> str | SafeString:
    """The time that has passed since then, which the script counts on."""
    if at is None:
        return NOTHING
    passed = max((datetime.now(UTC) - in_utc(at)).total_seconds(), 0.0)
    return format_html(
        '<time datetime="{}" data-since>{}</time>',
        in_utc(at).astimezone(UTC).isoformat(),
        duration_text(passed),
    )


@register.filter
def took(task: TaskSnapshot) -> str:
    """The run time of a finished task's last attempt."""
    if task.started_at is None or task.completed_at is None:
        return NOTHING
    return duration_text(max((task.completed_at - task.started_at).total_seconds(), 0.0))


@register.filter
def made_at(task_id: UUID) -> datetime:
    """The time at which an id was made."""
    return datetime.fromtimestamp(time_of(task_id), UTC)


@register.filter
def cut(text: str) -> str:
    """The first line of a text, shortened to what a row has room for."""
    first = text.strip().partition("\n")[0]
    return first if len(first) <= LINE else f"{first[: LINE - 1]}\N{HORIZONTAL ELLIPSIS}"


@register.filter
def duration(seconds: float | None) -> str:
    """Returns a duration as people say it: `3.2 s`; a dash for None."""
    return NOTHING if seconds is None else duration_text(seconds)


@register.filter
def many(count: int) -> str:
    """Returns a count as people read it; one beyond what was counted as `10,000+`."""
    return f"{MOST:,}+" if count > MOST else f"{count:,}"


@register.filter
def as_json(value: Any) -> str:
    """Returns a JSON value as indented text, to be escaped as any other."""
    return json.dumps(value, indent=2, ensure_ascii=False)
