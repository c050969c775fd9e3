"""Who may open the dashboard's pages, who may act, and the headers of every answer."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import User
from django.test import Client

pytestmark = pytest.mark.django_db


def test_a_superuser_sees_every_page(client: Client) -> None:
    """Each entry of the navigation answers."""
    client.force_login(User.objects.create_superuser("root"))
    for name in ("", "errors/", "queues/", "processes/", "schedules/", "charts/"):
        assert client.get(f"/tasks/{name}").status_code == 200
