"""The URLs of the servers that the acceptance tests start: the package's, and plain views."""

from __future__ import annotations

from django.urls import include, path

from tests.projects.acceptance.service_views import in_a_thread, on_a_loop
from tests.projects.acceptance.views import (
    answer_late,
    clients,
    clients_script,
    start_climb,
    stream_for_ever,
)

urlpatterns = [
    path("", include("tests.urls")),
    path("clients/", clients),
    path("clients/index.js", clients_script),
    path("plain/climb", start_climb),
    path("plain/late", answer_late),
    path("plain/ever", stream_for_ever),
    path("plain/service", on_a_loop),
    path("plain/service/thread", in_a_thread),
]
