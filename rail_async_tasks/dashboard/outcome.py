"""The answer to an action on one of the operators' pages: its part shown anew, or a redirect."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse

from rail_async_tasks.dashboard.notices import with_notice
from rail_async_tasks.dashboard.render import is_partial, render


def done(
    request: HttpRequest, notice: str, page: str, template: str, **values: Any
) -> HttpResponse:
    """Returns the answer to an action that was done.

    Args:
        notice: what was done, a sentence.
        page: the name of the page to go to, for a form without a script.
        template: the part of that page that has changed; its element has an id.
        values: what the template shows.
    """
    if is_partial(request):
        shown = {"message": notice, "may_change": True, "part": template, "oob": True}
        return render(request, "outcome.html", {**shown, **values})
    match = request.resolver_match
    assert match is not None
    return HttpResponseRedirect(with_notice(reverse(f"{match.namespace}:{page}"), notice))
