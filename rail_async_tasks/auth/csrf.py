"""Django's CSRF check, run by views that `own_view` exempts from the project's middleware."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest, HttpResponse
from django.middleware.csrf import CsrfViewMiddleware

from rail_async_tasks.safe_logging import get_logger

# Django logs its own refusals there.
logger = get_logger("django.security.csrf")


class CsrfCheck(CsrfViewMiddleware):
    """The check of one request, whose refusal is a reason and no page."""

    def __init__(self) -> None:
        super().__init__(_no_view)

    def problem(self, request: HttpRequest) -> str | None:
        """Returns why the request has no valid token, and logs it; None where it has one.

        Blocks: with CSRF_USE_SESSIONS it reads the session from the database.
        """
        reason: Any = self.process_view(request, _no_view, (), {})
        return None if reason is None else str(reason)

    def _reject(self, request: HttpRequest, reason: str) -> Any:
        extra = {"status_code": 403, "request": request}
        # Escaped as Django does, or a path with %0A would write a line of its own into a log.
        texts = (it.encode("unicode_escape").decode("ascii") for it in (reason, request.path))
        logger.warning("Forbidden (%s): %s", *texts, extra=extra)
        return reason


def _no_view(request: HttpRequest) -> HttpResponse:
    raise NotImplementedError  # stands for a view that is not exempt
