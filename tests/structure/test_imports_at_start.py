"""What `django.setup()` imports: nothing that only a running task, a broker or an exporter needs.

Nor do URLs and application, which `manage.py check` imports too, but for what they serve. A command
such as `migrate` pays for it at each start. Counts modules; measures no time.
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
for name in sys.argv[1:]:
    __import__(name)
if "rail_async_tasks.asgi" in sys.argv:
    sys.modules["rail_async_tasks.asgi"].get_asgi_application()
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
# What only a task that runs, another part of the URLs or a WebSocket needs.
OF_OTHERS = {
    "rail_async_tasks.dashboard.task", "rail_async_tasks.graphql.consumers",
    "rail_async_tasks.ledger.memory.ledger", "rail_async_tasks.ledger.sql",
    "rail_async_tasks.rest.views", "rail_async_tasks.runtime.attempts.attempt",
    "rail_async_tasks.runtime.runtime", "rail_async_tasks.runtime.services", "strawberry.channels",
}  # fmt: skip


def imported(*names: str) -> set[str]:
    """Returns the modules of a process that has set Django up, and has imported these besides."""
    command = [sys.executable, "-c", START, *names]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


def test_a_start_imports_nothing_that_nobody_asked_for() -> None:
    """With the default settings, in a process of its own."""
    modules = imported()
    assert "rail_async_tasks.checks" in modules
    assert modules & (HEAVY | OF_OTHERS) == set()


def test_the_urls_of_graphql_and_the_application_import_nothing_of_others() -> None:
    """As a check of a project does that includes no other part."""
    modules = imported("rail_async_tasks.urls.graphql", "rail_async_tasks.asgi")
    assert "rail_async_tasks.graphql.views" in modules
    assert modules & OF_OTHERS == set()
