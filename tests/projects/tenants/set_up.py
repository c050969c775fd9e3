"""Makes the tables, two tenants and a user; prints the user's cookie."""

from __future__ import annotations

import django

django.setup()

from django.conf import settings  # noqa: E402
from django.contrib.auth.models import User  # noqa: E402
from django.core.management import call_command  # noqa: E402
from django.db import connection  # noqa: E402
from django.test import Client  # noqa: E402

from tests.projects.tenants.customers.models import Customer, Domain  # noqa: E402

with connection.cursor() as cursor:
    cursor.execute(f"CREATE SCHEMA {settings.PUBLIC_SCHEMA_NAME}")
call_command("migrate_schemas", shared=True, verbosity=0)
for name in ("north", "south"):
    tenant = Customer.objects.create(schema_name=name, name=name)
    Domain.objects.create(domain=f"{name}.localhost", tenant=tenant, is_primary=True)
client = Client()
client.force_login(User.objects.create_user("ada"))
print(f"{settings.SESSION_COOKIE_NAME}={client.cookies['sessionid'].value}")  # noqa: T201
