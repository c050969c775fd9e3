"""Settings of a project with a schema per tenant, by django-tenants."""

from __future__ import annotations

import json
import os

from tests.settings import *  # noqa: F403

DATABASES["default"]["ENGINE"] = "django_tenants.postgresql_backend"  # noqa: F405
DATABASE_ROUTERS = ["django_tenants.routers.TenantSyncRouter"]

SHARED_APPS = [
    "django_tenants",
    "tests.projects.tenants.customers",
    "django.contrib.contenttypes",
    "django.contrib.auth",
    "django.contrib.sessions",
    "channels",
    "strawberry_django",
    "rail_async_tasks",
]
TENANT_APPS = ["django.contrib.contenttypes", "tests.projects.tenants.notes"]
INSTALLED_APPS = [*SHARED_APPS, *(app for app in TENANT_APPS if app not in SHARED_APPS)]

# Not "public", the first that PostgreSQL looks into: every connection needs the setting.
PUBLIC_SCHEMA_NAME = "common"
TENANT_MODEL = "customers.Customer"
TENANT_DOMAIN_MODEL = "customers.Domain"

MIDDLEWARE = [
    "django_tenants.middleware.main.TenantMainMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
]
ALLOWED_HOSTS = [".localhost"]
SESSION_COOKIE_DOMAIN = None
ROOT_URLCONF = "tests.projects.tenants.urls"
ASGI_APPLICATION = "tests.projects.tenants.asgi.application"
TEMPLATES = []

RAIL_DJANGO_GRAPHQL = {
    "task_settings": {
        "around_task": "tests.projects.tenants.tenancy.in_schema",
        "tenant_resolver": "tests.projects.tenants.tenancy.tenant_of",
        **json.loads(os.environ.get("ACCEPTANCE_TASK_SETTINGS", "{}")),
    },
    "schema_settings": {"mutation_extensions": ["tests.projects.tenants.notes.tasks.Mutations"]},
}
