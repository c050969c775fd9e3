"""Renders the dashboard's templates by an engine of its own.

So the pages depend on nothing in the project's `TEMPLATES`: no loader, context processor or other
engine. Every value is escaped.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Final

from django.http import HttpRequest, HttpResponse
from django.middleware.csrf import get_token
from django.template import Context, Engine

_TEMPLATES: Final = Path(__file__).with_name("templates")
_TITLES: Final = {
    401: "Sign in first",
    403: "Not allowed",
    404: "Not found",
    405: "Not here",
    429: "Too many",
    500: "Something failed",
    503: "Not available",
}


class Refused(Exception):
    """A request that is answered by a page with a sentence.

    Args:
        status: HTTP's.
        allow: the methods that the URL takes.
        sign_in: where another user may sign in.
    """

    def __init__(
        self, status: int, message: str, *, allow: Sequence[str] = (), sign_in: str | None = None
    ) -> None:
        super().__init__(message)
        self.status, self.message, self.allow, self.sign_in = status, message, allow, sign_in


@cache
def _engine() -> Engine:
    return Engine(
        dirs=[str(_TEMPLATES)],
        libraries={"dashboard": "rail_async_tasks.dashboard.tags"},
        builtins=["rail_async_tasks.dashboard.tags"],
    )


def to_text(template: str, values: Mapping[str, Any]) -> str:
    """Returns a rendered template; `template` is a file of `templates/`."""
    context = Context(dict(values), autoescape=True, use_l10n=False, use_tz=False)
    return str(_engine().get_template(template).render(context))


def shared_values(request: HttpRequest) -> dict[str, Any]:
    """Returns what every template has.

    That is `request`, `csrf_token`, and `namespace`, by which the tag `href` finds other pages.
    """
    match = request.resolver_match
    return {
        "request": request,
        "csrf_token": get_token(request),
        "namespace": "" if match is None else match.namespace,
    }


def render(
    request: HttpRequest, template: str, values: Mapping[str, Any], status: int = 200
) -> HttpResponse:
    """Returns the page of a template, which has `shared_values` and these."""
    return HttpResponse(to_text(template, {**shared_values(request), **values}), status=status)


def is_partial(request: HttpRequest) -> bool:
    """Returns whether the script asks, which takes the changed parts of the page."""
    return request.headers.get("HX-Request") == "true"


def refusal(request: HttpRequest, error: Refused) -> HttpResponse:
    """Returns the page that says why a request is refused."""
    title = _TITLES.get(error.status, "Not done")
    values = {
        "title": title,
        "message": error.message,
        "failed": True,
        "sign_in": error.sign_in,
        "listed": error.sign_in is None,
    }
    template = "notice.html" if is_partial(request) else "refused.html"
    response = render(request, template, values, error.status)
    if error.allow:
        response["Allow"] = ", ".join(error.allow)
    return response
