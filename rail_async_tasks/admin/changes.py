"""Cancel and retry of the tasks that are selected in the admin, through the service."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any, Final
from uuid import UUID

from django.contrib import messages
from django.contrib.admin import ModelAdmin
from django.db.models import QuerySet
from django.http import HttpRequest

from rail_async_tasks import service
from rail_async_tasks.access import Viewer, tenant_of
from rail_async_tasks.auth.retry_permits import permit_of
from rail_async_tasks.errors import AlreadyFinal, NotFinal, TaskError, TaskNotFound
from rail_async_tasks.models import TaskExecution
from rail_async_tasks.safe_logging import get_logger
from rail_async_tasks.text import counted

logger = get_logger("rail_async_tasks.admin")

# Tasks that one request changes.
MOST_CHANGED: Final = 500


def cancel(request: HttpRequest, viewer: Viewer, task_id: UUID) -> None:
    """Cancels a task."""
    service.cancel(viewer, task_id)


def retry(request: HttpRequest, viewer: Viewer, task_id: UUID) -> None:
    """Runs a task again, where the user may start it."""
    service.retry(viewer, task_id, permit=permit_of(request, request.user))


def change_all(
    model_admin: ModelAdmin[Any],
    request: HttpRequest,
    queryset: QuerySet[TaskExecution],
    change: Callable[[HttpRequest, Viewer, UUID], None],
    participle: str,
) -> None:
    """Changes each of the tasks, and says of how many it was done and why not of the others."""
    ids = list(queryset.order_by("id").values_list("id", flat=True)[: MOST_CHANGED + 1])
    if len(ids) > MOST_CHANGED:
        model_admin.message_user(
            request,
            f"None was {participle}: that would be more than {MOST_CHANGED} tasks at once. Select"
            " fewer, or use the dashboard or `manage.py tasks`, which take a filter.",
            messages.ERROR,
        )
        return
    viewer = Viewer.for_user(request.user, tenant_of(request))
    refused: Counter[str] = Counter()
    for task_id in ids:
        reason = _refusal(change, request, viewer, task_id)
        if reason is not None:
            refused[reason] += 1
    done = len(ids) - refused.total()
    if done:
        model_admin.message_user(request, f"{counted(done, 'task')} {participle}.")
    for reason, count in refused.items():
        text = f"{counted(count, 'task')} not {participle}: {reason}"
        model_admin.message_user(request, text, messages.WARNING)


def _refusal(
    change: Callable[[HttpRequest, Viewer, UUID], None],
    request: HttpRequest,
    viewer: Viewer,
    task_id: UUID,
) -> str | None:
    """Changes one task. Returns the reason where that was refused."""
    try:
        change(request, viewer, task_id)
    except AlreadyFinal:
        return "it has ended."
    except NotFinal:
        return "it has not ended."
    except TaskNotFound:
        return "it is gone."
    except TaskError as error:
        return error.message
    except Exception:  # a permission of the declaration's refuses by an exception of its own
        logger.exception("A change of task %s by the admin was refused", task_id)
        return "its declaration does not let you start it; the log has the reason."
    return None
