"""URLs of the dashboard's pages, for its own templates and for other edges."""

from __future__ import annotations

from typing import Any, Final

from django.urls import NoReverseMatch, reverse

NAMESPACE: Final = "rail_async_tasks_dashboard"
# Included as a whole, and as a part.
_NAMESPACES: Final = (f"rail_async_tasks:{NAMESPACE}", NAMESPACE)


def page_url(name: str, *args: Any) -> str | None:
    """Returns the URL of a page, `"task"` with a task's id, say; None where it is not served."""
    for namespace in _NAMESPACES:
        try:
            return reverse(f"{namespace}:{name}", args=args)
        except NoReverseMatch:
            continue
    return None
