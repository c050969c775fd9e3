"""`tasks/metrics`: the metrics page, for users who may see all tasks."""

from __future__ import annotations

from typing import Any

from asgiref.sync import sync_to_async
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.views.decorators.http import require_safe

from rail_async_tasks.access import VIEW_PERMISSION, user_id_of
from rail_async_tasks.auth.caller import authenticate
from rail_async_tasks.conf import get_settings
from rail_async_tasks.errors import TaskError, Unauthenticated
from rail_async_tasks.hooks import contained
from rail_async_tasks.own_views import own_view
from rail_async_tasks.safe_logging import get_logger

logger = get_logger("rail_async_tasks.metrics")


@own_view
@require_safe
async def metrics(request: HttpRequest) -> HttpResponse:
    """Returns the page; 404 where metrics are off, 401 for anonymous callers, 403 for others."""
    try:
        if not get_settings().metrics_enabled:
            return _refusal(404, "NOT_FOUND", "There are no metrics: metrics_enabled is off.")
        from rail_async_tasks.observability.metrics import get_metrics

        user = await authenticate(request)
        if await sync_to_async(contained(user_id_of))(user) is None:
            return _unauthenticated(Unauthenticated())
        if not await sync_to_async(contained(may_see_metrics))(user):
            return _refusal(403, "FORBIDDEN", "Metrics need the right to view tasks.")
        # Making the text takes milliseconds, which a loop full of tasks should not be held for.
        page = sync_to_async(contained(get_metrics().page), thread_sensitive=False)
        text, content_type = await page(request.headers.get("Accept", ""))
    except Unauthenticated as error:
        return _unauthenticated(error)
    except TaskError as error:
        logger.exception("Metrics cannot be served.")
        return _refusal(503, error.code, error.message)
    except Exception:  # a collector, an authenticator or a user model of the project's
        logger.exception("Metrics cannot be served.")
        return _refusal(500, "INTERNAL_ERROR", "Internal server error.")
    return HttpResponse(text, content_type=content_type)


def may_see_metrics(user: Any) -> bool:
    """Returns whether the user is a superuser or has the right to view tasks. May query.

    Being staff is not enough: names and rates of tasks tell what a business does.
    """
    if not getattr(user, "is_active", False):
        return False
    if getattr(user, "is_superuser", False):
        return True
    has_perm = getattr(user, "has_perm", None)
    return has_perm is not None and bool(has_perm(VIEW_PERMISSION))


def _unauthenticated(error: Unauthenticated) -> HttpResponse:
    response = _refusal(401, error.code, error.message)
    response["WWW-Authenticate"] = "Bearer"
    return response


def _refusal(status: int, code: str, message: str) -> JsonResponse:
    return JsonResponse({"error": {"code": code, "message": message}}, status=status)
