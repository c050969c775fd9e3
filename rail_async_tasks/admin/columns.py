"""Values of tasks as HTML of the admin. Every text of a task is escaped."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any
from uuid import UUID

from django.contrib.admin import AdminSite
from django.urls import NoReverseMatch, reverse
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

# The namespace of the dashboard's URLs: within the package's, and where it is included by itself.
_DASHBOARDS = ("rail_async_tasks:rail_async_tasks_dashboard", "rail_async_tasks_dashboard")


def bar(percent: int) -> SafeString:
    """Returns a progress bar. An element of HTML's own needs no style, which a CSP may forbid."""
    return format_html(
        '<progress max="100" value="{}" aria-label="Progress">{}%</progress> {}%',
        percent,
        percent,
        percent,
    )


def preformatted(text: str | None) -> SafeString | str:
    """Returns the text with its lines as they are."""
    return "-" if text is None else format_html("<pre>{}</pre>", text)


def as_json(value: Any) -> SafeString | str:
    """Returns a JSON value, indented."""
    if value is None:
        return "-"
    return preformatted(json.dumps(value, indent=2, ensure_ascii=False))


def live_link(task_id: UUID) -> SafeString | str:
    """Returns a link to the task's page in the dashboard; nothing where that is not served."""
    for namespace in _DASHBOARDS:
        try:
            url = reverse(f"{namespace}:task", args=[str(task_id)])
        except NoReverseMatch:
            continue
        return format_html('<a href="{}">live</a>', url)
    return ""


def task_link(site: AdminSite, task_id: UUID | None) -> SafeString | str:
    """Returns a link to another task's page in this admin; its id where it has no such page."""
    if task_id is None:
        return "-"
    try:
        url = reverse(f"{site.name}:rail_async_tasks_taskexecution_change", args=[str(task_id)])
    except NoReverseMatch:
        return str(task_id)
    return format_html('<a href="{}">{}</a>', url, str(task_id))


def table(head: Iterable[str], rows: Iterable[Iterable[object]]) -> SafeString:
    """Returns a table."""
    titles = format_html_join("", "<th>{}</th>", ((it,) for it in head))
    lines = [(format_html_join("", "<td>{}</td>", ((it,) for it in row)),) for row in rows]
    body = format_html_join("", "<tr>{}</tr>", lines)
    return format_html("<table><thead><tr>{}</tr></thead><tbody>{}</tbody></table>", titles, body)
