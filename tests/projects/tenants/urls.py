"""The package's URLs, and a view that starts a task in a transaction of its tenant's."""

from __future__ import annotations

from django.db import connection, transaction
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.urls import include, path

from tests.projects.tenants.notes.models import Note
from tests.projects.tenants.notes.tasks import add_note


def start_in_transaction(request: HttpRequest) -> HttpResponse:
    """Write a note, and start a task that finds it."""
    tenant = connection.schema_name  # type: ignore[attr-defined]
    with transaction.atomic():
        Note.objects.create(text="by the view")
        handle = add_note.using(tenant_id=tenant).enqueue(text="by the task")
    return JsonResponse({"id": str(handle.id)})


urlpatterns = [
    path("start/", start_in_transaction),
    path("", include("rail_async_tasks.urls")),
]
