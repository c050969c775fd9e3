"""What `django.setup()` imports: nothing that only a running task, a broker or an exporter needs.

A command such as `migrate` pays for it at each start. Counts modules; measures no time.
"""

from __future__ import annotations

import subprocess
import sys

START = """
import sys
import django
from django.conf import settings
settings.configure(
    INSTALLED_APPS=[
        "django.contrib.auth", "django.contrib.contenttypes", "channels", "strawberry_django",
        "rail_async_tasks",
    ],
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
    USE_TZ=True,
)
django.setup()
print(*sys.modules)
"""

# Each takes 5 to 300 ms. The package needs each of them for a task, an option or a command.
HEAVY = {
    "anyio", "arq", "asyncpg", "celery", "cronsim", "cryptography", "daphne", "django_q",
    "dramatiq", "jwt", "kombu", "opentelemetry", "prometheus_client", "pytest", "redis", "rich",
    "twisted", "uvicorn", "uvloop", "rail_async_tasks.runtime.runtime", "rail_async_tasks.testing",
    "rail_async_tasks.cli", "rail_async_tasks.graphql.consumers", "rail_async_tasks.ledger.sql",
    "rail_async_tasks.checks.settings", "rail_async_tasks.graphql.schema",
}  # fmt: skip


def test_a_start_imports_nothing_that_nobody_asked_for() -> None:
    """With the default settings, in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-c", START], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    imported = set(done.stdout.split())
    assert "rail_async_tasks.checks" in imported
    assert imported & HEAVY == set()
