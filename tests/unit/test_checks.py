"""System checks: what each one finds, what it says to do, and that none of them crashes."""

from __future__ import annotations

import re
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import strawberry
from channels.routing import ProtocolTypeRouter
from django.apps import apps
from django.contrib.auth.middleware import LoginRequiredMiddleware
from django.core.asgi import get_asgi_application as get_django_application
from django.core.checks import ERROR, CheckMessage, registry, run_checks
from django.db.utils import ConnectionHandler
from django.test import override_settings

from rail_async_tasks import asgi, backends, checks, conf
from rail_async_tasks.backends.broker import BrokerBackend, ThreadedBrokerBackend
from rail_async_tasks.checks import brokers, databases, project
from rail_async_tasks.checks import settings as settings_checks
from rail_async_tasks.conf import problems as problem_ids
from rail_async_tasks.declaration.definition import define
from rail_async_tasks.errors import ConfigurationError
from rail_async_tasks.hosting import process as host
from rail_async_tasks.registry import Registry

SQLITE = "django.db.backends.sqlite3"


@pytest.fixture
def shop(monkeypatch: pytest.MonkeyPatch) -> Iterator[types.ModuleType]:
    """A module that settings can name."""

    @strawberry.type
    class Query:
        shelves: int = 1

    module = types.ModuleType("checked_shop")
    module.Query = Query  # type: ignore[attr-defined]
    module.Backend = type("Backend", (BrokerBackend,), {})  # type: ignore[attr-defined]
    module.Shelf = type("Shelf", (), {})  # type: ignore[attr-defined]
    module.notify = lambda **_: None  # type: ignore[attr-defined]
    module.celery = types.SimpleNamespace(send_task=None)  # type: ignore[attr-defined]
    module.number = 3  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "checked_shop", module)
    return module


def found(check: checks.Check, tasks: Any = None, schema: Any = None, **kwargs: Any) -> list[str]:
    """Numbers of what `check` finds under these settings."""
    return [message.id.rpartition(".")[2] for message in messages(check, tasks, schema, **kwargs)]


def messages(
    check: checks.Check, tasks: Any = None, schema: Any = None, **kwargs: Any
) -> list[CheckMessage]:
    raw = {"task_settings": tasks or {}, "schema_settings": schema or {}}
    with override_settings(RAIL_DJANGO_GRAPHQL=raw):
        result = check(None, **kwargs)
    assert all(message.hint for message in result)
    return result


def test_the_docstring_lists_every_id() -> None:
    """The table is the reference of the ids: complete, and without dead ones."""
    in_table = set(re.findall(r"^    ([EW]\d{3})  ", checks.__doc__ or "", re.MULTILINE))
    package = Path(checks.__file__).parents[1]
    # Django's own check of the TASKS setting calls what is in `contrib`.
    modules = [*(package / "checks").glob("*.py"), *(package / "contrib").rglob("*.py")]
    source = "".join(it.read_text().partition('"""\n\nfrom')[2] for it in modules)
    in_checks = set(re.findall(r"\b[EW]\d{3}\b", source))
    in_settings = {
        value.rpartition(".")[2]
        for value in vars(problem_ids).values()
        if isinstance(value, str) and re.fullmatch(r"rail_async_tasks\.[EW]\d{3}", value)
    }

    # The checks' own comments and docstrings may name ids of the settings, too.
    assert in_table == in_checks | in_settings


def test_all_checks_are_registered() -> None:
    """`manage.py check` finds wrong settings by the app's tag, whatever else is wrong."""
    checks.register_checks()

    raw = {"task_settings": {"max_workers": 0, "failure_callback": "no_such.thing"}}
    with override_settings(RAIL_DJANGO_GRAPHQL=raw, USE_TZ=False, TIME_ZONE="Asia/Tokyo"):
        ids = {message.id for message in run_checks(tags=[checks.TAG])}

    assert {f"rail_async_tasks.{number}" for number in ("E004", "E013", "W007")} <= ids
    assert checks.check_databases in registry.registry.registered_checks


def test_mistakes_in_settings_come_with_level_id_and_hint() -> None:
    """All at once, errors as errors and warnings as warnings."""
    result = messages(
        checks.check_settings, {"max_workers": 0, "bakend": "x", "failure_callback": "a.b"}
    )

    assert [(type(message).__name__, message.id[-4:]) for message in result] == [
        ("Error", "E002"),
        ("Error", "E004"),
        ("Warning", "W002"),
    ]
    assert result[0].hint == 'Did you mean "backend"?'


@pytest.mark.parametrize("value", [None, [], 3, "x", {"task_settings": None}])
@pytest.mark.parametrize(
    "check",
    [
        checks.check_settings,
        checks.check_dotted_paths,
        checks.check_packages,
        checks.check_backend,
        checks.check_capabilities,
        checks.check_bus,
        checks.check_project,
        checks.check_databases,
        checks.check_schema,
    ],
)
def test_every_check_runs_whatever_the_settings_are(check: checks.Check, value: object) -> None:
    """Wrong settings are reported by one check and survived by the others."""
    with override_settings(RAIL_DJANGO_GRAPHQL=value):
        result = check(None, databases=[])

    assert bool(result) == (check is checks.check_settings)


def test_nothing_is_wrong_without_settings() -> None:
    """A fresh project with the app and its neighbours gets no message."""
    for check in (
        checks.check_settings, checks.check_dotted_paths, checks.check_packages,
        checks.check_backend, checks.check_capabilities, checks.check_bus, checks.check_schema,
    ):  # fmt: skip
        assert check(None) == []


def test_right_paths_are_silent(shop: types.ModuleType) -> None:
    """Paths that import and fit are not reported."""
    tasks = {
        "backend": "checked_shop.Backend",
        "celery_app": "checked_shop.celery",
        "failure_callback": "checked_shop.notify",
        "tenant_resolver": "checked_shop.notify",
        "authenticator": "checked_shop.notify",
    }
    schema = {"query_extensions": ["checked_shop.Query"]}

    assert found(checks.check_dotted_paths, tasks, schema) == []


@pytest.mark.parametrize("path", ["checked_shop.Missing", "no_such_shop.Query"])
def test_an_extension_that_does_not_import_is_an_error(shop: types.ModuleType, path: str) -> None:
    """The message has the setting, the path and the original error."""
    (message,) = messages(checks.check_dotted_paths, schema={"mutation_extensions": [path]})

    assert message.id == "rail_async_tasks.E012"
    assert "mutation_extensions" in message.msg
    assert path in message.msg
    assert "Error" in message.msg


def test_an_extension_whose_module_raises_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A broken module of the project is reported, not raised through the checks."""
    (tmp_path / "broken_shop.py").write_text("raise RuntimeError('no shelves')\n")
    monkeypatch.syspath_prepend(str(tmp_path))

    (message,) = messages(
        checks.check_dotted_paths, schema={"query_extensions": ["broken_shop.Query"]}
    )

    assert "RuntimeError: no shelves" in message.msg


SHOP = "tests.projects.shop"


@pytest.mark.parametrize(
    ("schema", "said"),
    [
        ({"query_extensions": [f"{SHOP}.Clash"]}, ["'tasks' is declared by"]),
        ({"mutation_extensions": [f"{SHOP}.TaskMutations"] * 2}, ["'add' is declared by"]),
        (
            {
                "query_extensions": [f"{SHOP}.Clash", f"{SHOP}.Queries", f"{SHOP}.Renamed"],
                "subscription_extensions": [f"{SHOP}.FollowClash"],
            },
            ["'tasks' is declared", "'brokenGlass' is declared", "'taskProgress' is declared"],
        ),
        ({"query_extensions": [f"{SHOP}.SameType"]}, ["Type TaskExecution is defined multiple"]),
        ({"query_extensions": [f"{SHOP}.WithEmpty"]}, ["Type Empty must define one or more"]),
        ({"query_extensions": [f"{SHOP}.WithNowhere"]}, ["Could not resolve the type of"]),
    ],
)
def test_a_schema_that_cannot_be_built_is_an_error(schema: Any, said: list[str]) -> None:
    """Names that clash, and whatever Strawberry refuses; each clash by itself, where it stands."""
    result = messages(checks.check_schema, schema=schema)
    for text in said:
        assert any(text in message.msg for message in result)
    assert {message.id for message in result} == {"rail_async_tasks.E021"}
    assert all("schema_settings" in message.msg or "built" in message.msg for message in result)


def test_a_schema_that_can_be_built_is_silent() -> None:
    """With extensions of all three kinds."""
    from tests.projects.shop import SETTINGS

    assert found(checks.check_schema, schema=SETTINGS["schema_settings"]) == []


def test_one_mistake_of_an_extension_is_one_error() -> None:
    """The check of the schema does not repeat another check's reports."""

    def errors(**schema_settings: Any) -> list[str]:
        with override_settings(RAIL_DJANGO_GRAPHQL={"schema_settings": schema_settings}):
            return [it.msg for it in run_checks(tags=[checks.TAG]) if it.id[-4] == "E"]

    others = errors()  # of tasks that other tests have declared
    for path in ("no_such_shop.Query", f"{SHOP}.not_a_type", 3):
        assert len([it for it in errors(query_extensions=[path]) if it not in others]) == 1


@pytest.mark.parametrize("name", ["RAIL_DJANGO_GRAPQL", "RAIL_DJANGO_GRAPHQLS", "RAIL_ASYNC_TASKS"])
def test_a_setting_of_almost_our_name_is_a_warning(name: str, settings: Any) -> None:
    """Where ours is missing; beside ours it belongs to another package."""
    del settings.RAIL_DJANGO_GRAPHQL
    setattr(settings, name, {"task_settings": {"max_workers": 2}})
    (message,) = checks.check_settings(None)
    assert (message.id, message.hint) == (
        "rail_async_tasks.W001",
        'Did you mean "RAIL_DJANGO_GRAPHQL"?',
    )
    settings.RAIL_DJANGO_GRAPHQL = {}
    assert checks.check_settings(None) == []


def test_an_extension_that_is_no_strawberry_type_is_an_error(shop: types.ModuleType) -> None:
    """A plain class would add nothing to the schema, silently."""
    assert found(
        checks.check_dotted_paths, schema={"query_extensions": ["checked_shop.Shelf"]}
    ) == ["E012"]


@pytest.mark.parametrize(
    "key", ["backend", "celery_app", "failure_callback", "tenant_resolver", "authenticator"]
)
@pytest.mark.parametrize("path", ["checked_shop.number", "checked_shop.missing", "no_such.thing"])
def test_a_path_that_is_of_no_use_is_an_error(shop: types.ModuleType, key: str, path: str) -> None:
    """It does not import, or is not what the setting takes."""
    assert found(checks.check_dotted_paths, {key: path}) == ["E013"]


def test_a_class_that_is_no_backend_is_an_error(shop: types.ModuleType) -> None:
    """It is said at start, and again where it is used: with what it lacks, and the remedy."""
    setting = {"backend": "checked_shop.Shelf"}
    (message,) = messages(checks.check_dotted_paths, setting)
    assert message.id == "rail_async_tasks.E013"
    assert found(checks.check_backend, setting) == []
    with (
        override_settings(RAIL_DJANGO_GRAPHQL={"task_settings": setting}),
        pytest.raises(ConfigurationError) as error,
    ):
        backends.get_backend(conf.get_settings())
    assert str(error.value) == f"{message.msg} {message.hint}"
    words = ("lacks inline, own_thread, capabilities", "BrokerBackend", "AsyncioBackend", "asubmit")
    assert [word in str(error.value) for word in words] == [True] * 4


@pytest.mark.parametrize(
    ("backend", "words"),
    [
        (type("Raises", (BrokerBackend,), {"__init__": lambda self: 1 // 0}), "ZeroDivisionError"),
        (type("Mute", (BrokerBackend,), {}), "has no method push"),
        (type("MuteToo", (ThreadedBrokerBackend,), {}), "has no method push"),
    ],
)
def test_a_backend_that_cannot_work_is_an_error(
    shop: types.ModuleType, backend: type, words: str
) -> None:
    """Said by the checks: neither they nor any other command fall over it."""
    name = backend.__name__
    setattr(shop, name, backend)
    (message,) = messages(checks.check_backend, {"backend": f"checked_shop.{name}"})
    assert message.id == "rail_async_tasks.E013"
    assert words in message.msg
    with override_settings(
        RAIL_DJANGO_GRAPHQL={"task_settings": {"backend": f"checked_shop.{name}"}}
    ):
        backends.declare()


def test_a_backend_is_called_by_its_path() -> None:
    """If it does not say another name."""
    assert type("Unnamed", (BrokerBackend,), {"__module__": "shop"}).name == "shop.Unnamed"


def test_paths_are_looked_at_beside_other_mistakes(shop: types.ModuleType) -> None:
    """One wrong number does not hide a wrong path: everything is reported in one run."""
    tasks = {"max_workers": 0, "authenticator": "no_such.thing"}
    schema = {"query_extensions": ["nodots", "no_such.Query"]}

    assert found(checks.check_dotted_paths, tasks, schema) == ["E012", "E013"]


@pytest.mark.parametrize(
    ("tasks", "package"),
    [
        ({"backend": "arq", "redis_url": "redis://x", "bus": "memory"}, "arq"),
        ({"backend": "celery", "celery_app": "root.celery.app"}, "celery"),
        ({"backend": "dramatiq"}, "dramatiq"),
        ({"backend": "django_q"}, "django_q"),
        ({"redis_url": "redis://x"}, "redis"),
    ],
)
def test_a_backend_without_its_package_is_an_error(
    monkeypatch: pytest.MonkeyPatch, tasks: dict[str, Any], package: str
) -> None:
    """The extra must be installed."""
    monkeypatch.setattr(settings_checks, "_is_installed", lambda name: name != package)

    assert found(checks.check_packages, tasks) == ["E015"]


CELERY = {"backend": "celery", "celery_app": "checked_shop.celery_app"}
ARQ = {"backend": "arq", "redis_url": "redis://x"}
OWN = {"backend": "checked_shop.Backend"}


@pytest.mark.parametrize(
    ("tasks", "places"),
    [
        ({"queues": {"slow": {"concurrency": 2}}, **CELERY}, ["slow"]),
        ({"queues": {"slow": {"priority": 2}}, **CELERY}, []),
        ({"queues": {"slow": {"priority": 2}}, **OWN}, ["slow"]),
        ({"queues": {"low": {"priority": -9, "concurrency": 2}}, **OWN}, ["low", "low"]),
        ({"queues": {"low": {"priority": -10}, "other": {}}, **OWN}, []),
        ({"queues": {"slow": {"priority": 2, "concurrency": 2}}, **ARQ}, []),
        ({"queues": {"slow": {"priority": 2, "concurrency": 2}}}, []),
        ({"queues": {"slow": {"priority": 2, "concurrency": 2}}, "backend": "sync"}, []),
        # Another setting that is wrong hides nothing; one that is wrong itself asks for nothing.
        ({"queues": {"slow": {"concurrency": 2}}, "max_workers": 0, **CELERY}, ["slow"]),
        ({"queues": {"slow": {"concurrency": 0}}, **CELERY}, []),
        ({"queues": {"slow": {"concurrency": 2}}, **CELERY, "backend": "selery"}, []),
    ],
)
def test_a_queue_that_asks_for_what_a_backend_lacks_is_an_error(
    shop: types.ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    tasks: dict[str, Any],
    places: list[str],
) -> None:
    """An option that has no effect is reported; the priorities of the defaults are not."""
    monkeypatch.setattr(brokers, "registry", Registry())
    result = messages(checks.check_capabilities, tasks)

    assert [message.id for message in result] == ["rail_async_tasks.E020"] * len(places)
    for message, place in zip(result, places, strict=True):
        assert f'["{place}"]' in message.msg


@pytest.mark.parametrize(
    ("tasks", "ids"), [(CELERY, ["E020"]), (OWN, ["E020"]), (ARQ, []), ({}, [])]
)
def test_a_task_that_asks_for_what_a_backend_lacks_is_an_error(
    shop: types.ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    tasks: dict[str, Any],
    ids: list[str],
) -> None:
    """A priority within a queue that takes what comes in its order."""
    declared = Registry()
    for name, priority in (("urgent", 5), ("usual", None), ("same", 0)):
        declared.register(define(_work, name=name, priority=priority))
    monkeypatch.setattr(brokers, "registry", declared)

    assert found(checks.check_capabilities, tasks) == ids
    assert all("'urgent'" in it.msg for it in messages(checks.check_capabilities, tasks))


async def _work() -> None:
    """Nothing."""


@pytest.mark.parametrize(
    ("tasks", "ids"),
    [
        ({**ARQ, "bus": "memory"}, ["W009"]),
        (CELERY, ["W009"]),
        (OWN, ["W009"]),
        (ARQ, []),
        ({**CELERY, "redis_url": "redis://x"}, []),
        ({"backend": "thread"}, []),
        ({**CELERY, "enabled": False}, []),
    ],
)
def test_a_bus_that_reaches_no_worker_is_a_warning(
    shop: types.ModuleType, tasks: dict[str, Any], ids: list[str]
) -> None:
    """Watchers then follow by looking at the rows; the hint says how they would hear at once."""
    assert found(checks.check_bus, tasks) == ids
    assert all("redis_url" in str(it.hint) for it in messages(checks.check_bus, tasks))


@pytest.mark.parametrize(
    ("tasks", "package", "extra"),
    [
        ({"jwt": {"key": "k" * 32, "algorithms": ["HS256"]}}, "jwt", "jwt"),
        ({"encryption_keys": ["A" * 43 + "="]}, "cryptography", "crypto"),
        ({"metrics_enabled": True}, "prometheus_client", "metrics"),
    ],
)
def test_a_setting_without_its_package_is_an_error(
    monkeypatch: pytest.MonkeyPatch, tasks: dict[str, Any], package: str, extra: str
) -> None:
    """The hint has the command that installs it."""
    monkeypatch.setattr(settings_checks, "_is_installed", lambda name: name != package)

    (message,) = messages(checks.check_packages, tasks)

    assert (message.id, package in message.msg) == ("rail_async_tasks.E015", True)
    assert f'pip install "rail_async_tasks[{extra}]"' in (message.hint or "")


@pytest.mark.parametrize(
    ("url", "ids"),
    [
        ("redis://:hunter2@redis.example:6379/0", []),
        ("rediss://ada:hunter2@redis.example/1?ssl_cert_reqs=none", []),
        ("unix:///run/redis.sock?password=hunter2", []),
        ("redis://:hunter2@redis.example:port", ["E006"]),
        ("redis://:hunter2@redis.example/0?sokcet_timeout=1", ["E006"]),
    ],
)
def test_a_redis_url_that_cannot_be_read_is_an_error(url: str, ids: list[str]) -> None:
    """Said at start, without a connection, and without the password."""
    assert found(checks.check_redis_url, {"redis_url": url}) == ids
    assert found(checks.check_redis_url, {"redis_url": url, "bus": "memory"}) == []
    for message in messages(checks.check_redis_url, {"redis_url": url}):
        assert "hunter2" not in message.msg


@pytest.mark.parametrize(
    ("module", "installed"),
    [("json", True), ("no_such_module", False), ("no_such.module", False), ("json.x", False)],
)
def test_a_missing_module_is_known_without_importing_it(module: str, installed: bool) -> None:
    """A missing parent counts as missing and does not raise."""
    assert settings_checks._is_installed(module) is installed


@pytest.mark.parametrize("app", ["channels", "strawberry_django"])
def test_a_missing_neighbour_app_is_a_warning(monkeypatch: pytest.MonkeyPatch, app: str) -> None:
    """Both belong in INSTALLED_APPS."""
    monkeypatch.setattr(apps, "is_installed", lambda name: name != app)

    (message,) = checks.check_project(None)

    assert message.id == "rail_async_tasks.W004"
    assert app in message.msg


@pytest.mark.parametrize(("track", "ids"), [(True, []), (False, ["rail_async_tasks.W002"])])
def test_an_audit_of_rows_in_memory_is_a_warning(track: bool, ids: list[str]) -> None:
    """It would have no effect."""
    values = {"audit_enabled": True, "track_in_database": track}
    with override_settings(RAIL_DJANGO_GRAPHQL={"task_settings": values}):
        assert [message.id for message in checks.check_project(None)] == ids


def test_a_local_clock_is_a_warning() -> None:
    """Tasks run all the same, but their times are ambiguous for an hour a year."""
    with override_settings(USE_TZ=False, TIME_ZONE="Europe/Berlin"):
        assert "rail_async_tasks.W007" in [message.id for message in checks.check_project(None)]
    with override_settings(USE_TZ=False, TIME_ZONE="UTC"):
        assert "rail_async_tasks.W007" not in [m.id for m in checks.check_project(None)]
    with override_settings(USE_TZ=True, TIME_ZONE="Europe/Berlin"):
        assert "rail_async_tasks.W007" not in [m.id for m in checks.check_project(None)]


def test_a_database_with_a_local_clock_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only where it keeps times without their offset."""
    for engine, zone, warns in (
        (SQLITE, "Europe/Berlin", True),
        (SQLITE, "UTC", False),
        ("django.db.backends.postgresql", "Europe/Berlin", False),
    ):
        config = {"ENGINE": engine, "NAME": "x", "TIME_ZONE": zone}
        monkeypatch.setattr(project, "connections", ConnectionHandler({"default": config}))
        ids = [message.id for message in checks.check_project(None)]
        assert ("rail_async_tasks.W007" in ids) is warns


class Split:
    """A router that sends our events elsewhere."""

    def db_for_write(self, model: Any, **hints: Any) -> str | None:
        return "events" if model.__name__ == "TaskEvent" else None


def test_tables_in_several_databases_are_an_error() -> None:
    """One transaction writes a task and its audit."""
    with override_settings(DATABASE_ROUTERS=[f"{__name__}.Split"]):
        (message,) = checks.check_project(None)
    assert message.id == "rail_async_tasks.E023"
    assert 'TaskEvent to "events"' in message.msg


SECURE = "django.middleware.security.SecurityMiddleware"
LOGIN = "django.contrib.auth.middleware.LoginRequiredMiddleware"


class Login(LoginRequiredMiddleware):
    """A project's own."""


@pytest.mark.parametrize(
    ("django_settings", "ids"),
    [
        ({"SECURE_SSL_REDIRECT": True}, ["W013"]),
        ({"SECURE_SSL_REDIRECT": True, "SECURE_REDIRECT_EXEMPT": ["^health$"]}, ["W013"]),
        ({"SECURE_SSL_REDIRECT": True, "SECURE_REDIRECT_EXEMPT": ["tasks/health/"]}, []),
        ({"SECURE_SSL_REDIRECT": True, "MIDDLEWARE": []}, []),
        ({"SECURE_SSL_REDIRECT": True, "ROOT_URLCONF": "tests.unit"}, []),
        ({"SECURE_SSL_REDIRECT": False}, []),
    ],
)  # fmt: skip
def test_probes_that_are_redirected_are_a_warning(
    django_settings: dict[str, Any], ids: list[str]
) -> None:
    """A probe speaks plain HTTP, and takes a redirect for an answer or for none."""
    with override_settings(**{"MIDDLEWARE": [SECURE], **django_settings}):
        assert found(checks.check_probes) == ids


@pytest.mark.parametrize(
    ("middleware", "tasks", "ids"),
    [
        ([LOGIN], {}, ["W014"]),
        ([f"{__name__}.Login"], {}, ["W014"]),
        ([LOGIN], {"anonymous_access": "deny"}, []),
        ([LOGIN], {"anonymous_access": "by_id"}, []),
        (["nowhere.Middleware"], {}, []),
    ],
)
def test_a_login_for_pages_only_is_a_warning(
    middleware: list[str], tasks: dict[str, Any], ids: list[str]
) -> None:
    """Until the project says what holds for tasks."""
    with override_settings(MIDDLEWARE=middleware):
        assert found(checks.check_login, tasks) == ids


def database(
    monkeypatch: pytest.MonkeyPatch, name: object, *, migrate: bool = False, **options: Any
) -> Any:
    """Makes the checks see one SQLite database of this name; `migrate` has it lack the tables."""
    handler = ConnectionHandler(
        {"default": {"ENGINE": SQLITE, "NAME": str(name), "OPTIONS": options}}
    )
    monkeypatch.setattr(databases, "connections", handler)
    if not migrate:
        monkeypatch.setattr(databases, "missing_table", lambda connection: None)
    return handler["default"]


@pytest.mark.parametrize(
    ("options", "expected"),
    [({}, ["W005"]), ({"init_command": "PRAGMA journal_mode=WAL"}, [])],
)
def test_sqlite_without_wal_is_a_warning(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    django_db_blocker: Any,
    options: dict[str, Any],
    expected: list[str],
) -> None:
    """With the option that the hint advises, the warning is gone; no connection is left open."""
    connection = database(monkeypatch, tmp_path / "db.sqlite3", **options)
    with django_db_blocker.unblock():
        result = messages(checks.check_databases, databases=["default"])

    assert [message.id[-4:] for message in result] == expected
    assert connection.connection is None
    for message in result:
        assert '"init_command": "PRAGMA journal_mode=WAL"' in (message.hint or "")
        assert '"transaction_mode": "IMMEDIATE"' in (message.hint or "")


@pytest.mark.parametrize("command", ["check", "migrate"])
def test_missing_tables_are_a_warning(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, django_db_blocker: Any, command: str
) -> None:
    """One that says what to run; none while that runs, which an error would even prevent."""
    path = tmp_path / "db.sqlite3"
    connection = database(monkeypatch, path, migrate=True, init_command="PRAGMA journal_mode=WAL")
    monkeypatch.setattr(sys, "argv", ["manage.py", command, "--database", "default"])
    with django_db_blocker.unblock():
        result = messages(checks.check_databases, databases=["default"])
    if command == "migrate":
        assert result == []
        return
    (message,) = result
    assert message.id == "rail_async_tasks.W018"
    assert message.level < ERROR
    assert message.msg.startswith('The database "default" lacks the table rail_async_tasks_')
    assert message.msg.endswith("run `manage.py migrate`.")
    assert connection.connection is None


def test_sqlite_in_memory_is_silent(
    monkeypatch: pytest.MonkeyPatch, django_db_blocker: Any
) -> None:
    """It has no WAL mode to be in."""
    connection = database(monkeypatch, ":memory:")
    with django_db_blocker.unblock():
        assert databases._journal_mode(connection) == "memory"
        assert found(checks.check_databases, databases=["default"]) == []
        # Django's own close() leaves a database in memory open.
        connection.connection.close()
        connection.connection = None


def test_old_sqlite_is_an_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The version is looked at without opening the database."""
    connection = database(monkeypatch, tmp_path / "db.sqlite3")
    monkeypatch.setattr(connection, "Database", types.SimpleNamespace(sqlite_version_info=(3, 34)))

    assert found(checks.check_databases, databases=["default"]) == ["E016"]
    assert not (tmp_path / "db.sqlite3").exists()


def test_a_database_that_cannot_be_reached_is_left_to_django(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, django_db_blocker: Any
) -> None:
    """The checks do not crash on it."""
    database(monkeypatch, tmp_path / "missing" / "db.sqlite3")
    with django_db_blocker.unblock():
        assert found(checks.check_databases, databases=["default"]) == []


@pytest.mark.parametrize(("vendor", "expected"), [("mysql", ["W006"]), ("postgresql", [])])
def test_another_database_is_a_warning(
    monkeypatch: pytest.MonkeyPatch, vendor: str, expected: list[str]
) -> None:
    """It works by the portable path, and is known to be slower."""
    connection = database(monkeypatch, "unused")
    monkeypatch.setattr(connection, "vendor", vendor)

    assert found(checks.check_databases, databases=["default"]) == expected


@pytest.mark.parametrize("databases", [None, [], ["other"]])
def test_a_database_that_django_did_not_ask_for_is_not_looked_at(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, databases: list[str] | None
) -> None:
    """Plain `manage.py check` opens no connection."""
    connection = database(monkeypatch, tmp_path / "db.sqlite3")
    monkeypatch.setattr(connection, "vendor", "mysql")

    assert found(checks.check_databases, databases=databases) == []


def test_rows_in_memory_need_no_database(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """With `track_in_database` off nothing is said about a database that is not used."""
    connection = database(monkeypatch, tmp_path / "db.sqlite3")
    monkeypatch.setattr(connection, "vendor", "mysql")

    tasks = {"track_in_database": False}
    assert found(checks.check_databases, tasks, databases=["default"]) == []


def test_checks_read_the_settings_anew() -> None:
    """Cached settings do not hide the present ones."""
    conf.get_settings()
    with override_settings(RAIL_DJANGO_GRAPHQL={"task_settings": {"x": 1}}):
        assert [message.id for message in checks.check_settings(None)] == ["rail_async_tasks.E002"]


def test_an_annotation_that_names_nothing_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is read once everything is imported; the checks say it, not the first start."""
    from rail_async_tasks import task
    from rail_async_tasks.registry import registry

    for name in ("_definitions", "coroutine_names", "thread_names"):
        monkeypatch.setattr(registry, name, getattr(registry, name))

    @task(name="checks.forward")
    async def forward(x: Nowhere) -> None: ...  # type: ignore[name-defined]  # noqa: F821

    found = [it for it in checks.check_tasks(None) if it.id == "rail_async_tasks.E018"]
    assert len(found) == 1
    assert "Nowhere" in found[0].msg


# --- the ASGI application ------------------------------------------------------------------------


async def behind_middleware(scope: Any, receive: Any, send: Any) -> None:
    """Ours, in a middleware that copies the scope."""
    await asgi.get_asgi_application()(dict(scope), receive, send)


async def with_a_lifespan_of_its_own(scope: Any, receive: Any, send: Any) -> None:
    """Another framework's, which starts its services at the first message."""
    await receive()
    raise AssertionError("A check must not start it.")


APPLICATIONS = {
    "ours": asgi.get_asgi_application,
    "a router with our lifespan": lambda: ProtocolTypeRouter({"lifespan": asgi.lifespan}),
    "ours behind a middleware": lambda: behind_middleware,
}
OTHERS = {
    "django": get_django_application,
    "a router without lifespan": lambda: ProtocolTypeRouter({"http": get_django_application()}),
    "another framework": lambda: with_a_lifespan_of_its_own,
    "no application": lambda: 3,
}


@pytest.mark.parametrize("make", APPLICATIONS.values(), ids=APPLICATIONS)
def test_an_application_that_starts_the_runtime(shop: Any, make: Any, settings: Any) -> None:
    """It is asked, and starts nothing by that."""
    shop.application = make()
    settings.ASGI_APPLICATION = "checked_shop.application"
    assert found(checks.check_application) == []
    assert host.hosted() is None


@pytest.mark.parametrize("make", OTHERS.values(), ids=OTHERS)
def test_an_application_without_our_lifespan_is_a_warning(
    shop: Any, make: Any, settings: Any
) -> None:
    """The hint names what belongs into asgi.py."""
    shop.application = make()
    settings.ASGI_APPLICATION = "checked_shop.application"
    [warning] = messages(checks.check_application)
    assert warning.id == "rail_async_tasks.W012"
    assert "checked_shop.application" in warning.msg
    assert "get_asgi_application()" in str(warning.hint)
    # Where nothing runs in the background nothing needs to start.
    assert found(checks.check_application, {"backend": "sync"}) == []
    assert found(checks.check_application, {"enabled": False}) == []


@pytest.mark.parametrize("path", [None, "", "checked_shop.missing", "no_module.application"])
def test_an_application_that_is_not_there_is_a_warning(
    shop: Any, path: str | None, settings: Any
) -> None:
    """Not set, or it cannot be imported."""
    settings.ASGI_APPLICATION = path
    assert found(checks.check_application) == ["W012"]


# --- tenants -------------------------------------------------------------------------------------


def test_tables_in_the_schemas_of_tenants_are_an_error(
    settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """django-tenants: what is enqueued there would never run. In the public schema it is right."""
    installed = apps.is_installed
    monkeypatch.setattr(
        apps, "is_installed", lambda name: name == "django_tenants" or installed(name)
    )
    settings.SHARED_APPS = ["rail_async_tasks"]
    settings.TENANT_APPS = ["notes"]
    assert checks.check_tenants(None) == []
    settings.TENANT_APPS = ["notes", "rail_async_tasks.apps.RailAsyncTasksConfig"]
    [error] = checks.check_tenants(None)
    assert error.id == "rail_async_tasks.E034"
    assert "TENANT_APPS" in error.msg
    assert "SHARED_APPS" in str(error.hint)
    settings.SHARED_APPS = []
    assert len(checks.check_tenants(None)) == 2
    settings.HAS_MULTI_TYPE_TENANTS = True
    settings.TENANT_TYPES = {
        "public": {"APPS": ["rail_async_tasks"]},
        "shop": {"APPS": ["rail_async_tasks"]},
    }
    [error] = checks.check_tenants(None)
    assert 'TENANT_TYPES["shop"]' in error.msg


def test_without_django_tenants_there_is_nothing_to_check() -> None:
    assert checks.check_tenants(None) == []


DEPLOYED = {
    "tasks": {"anonymous_access": "deny", "rate_limit": "100/m", "redis_url": "redis://r:1/0",
              "introspection": False, "console": False},
    "DEBUG": False, "SECURE_PROXY_SSL_HEADER": ("HTTP_X_FORWARDED_PROTO", "https"),
}  # fmt: skip
WEAK_KEYS = [
    ({"key": "0123456789abcdef" * 2, "algorithms": ["HS512"]}, "fewer than the 64"),
    ({"key": "ab" * 32, "algorithms": ["HS256"]}, "different characters"),
    ({"key": "django-insecure-0123456789abcdefgh", "algorithms": ["HS256"]}, "django-insecure-"),
    ({"keys": {"a": "the secret key of this project 1"}, "algorithms": ["HS256"]}, "SECRET_KEY"),
]


def exposed(tasks: dict[str, Any] | None = None, **django_settings: Any) -> list[CheckMessage]:
    given = {key: value for key, value in DEPLOYED.items() if key != "tasks"}
    key = "the secret key of this project 1"
    with override_settings(**{**given, "SECRET_KEY": key, **django_settings}):
        return messages(checks.check_exposure, {**DEPLOYED["tasks"], **(tasks or {})})  # type: ignore[dict-item]


@pytest.mark.parametrize(
    ("tasks", "django_settings", "number"),
    [
        ({"anonymous_access": "by_id", "trusted_proxies": ["10.0.0.1"]}, {}, "W020"),
        ({"rate_limit": None}, {}, "W021"),
        ({}, {"DEBUG": True}, "W022"),
        *(({"jwt": jwt}, {}, "W023") for jwt, _ in WEAK_KEYS),
        ({"bus": "memory"}, {}, "W024"),
        ({"introspection": True}, {}, "W025"),
        ({"console": True}, {}, "W026"),
        ({}, {"SECURE_PROXY_SSL_HEADER": None}, "W027"),
    ],
)
def test_what_strangers_may_do_is_a_warning_each(
    monkeypatch: pytest.MonkeyPatch, tasks: Any, django_settings: Any, number: str
) -> None:
    """One line each with its remedy, and none in a closed deployment."""
    monkeypatch.delenv("WEB_CONCURRENCY", raising=False)
    assert exposed() == []
    (message,) = exposed(tasks, **django_settings)
    assert message.id == f"rail_async_tasks.{number}"
    assert "\n" not in message.msg


def test_limits_that_are_lifted_are_named() -> None:
    """In the line of what they would bound."""
    closed = {"trusted_proxies": ["10.0.0.1"]}
    lifted = {"anonymous_pending_per_address": None}
    (message,) = exposed({**closed, "anonymous_access": "by_id", "limits": lifted})
    assert 'limits["anonymous_pending_per_address"] is None' in message.msg
    (message,) = exposed({"rate_limit": None})
    assert '"max_pending_per_owner" is None' in message.msg
    (message,) = exposed({"rate_limit": None, "max_pending_per_owner": 100})
    assert "max_pending_per_owner" not in message.msg


def test_anonymous_callers_behind_an_unnamed_proxy_are_a_warning() -> None:
    """All of them would be one address; a proxy that is named, or no proxy, is none."""
    found = exposed({"anonymous_access": "by_id"})
    assert [it.id[-4:] for it in found] == ["W020", "W028"]
    found = exposed({"anonymous_access": "by_id"}, SECURE_PROXY_SSL_HEADER=None)
    assert [it.id[-4:] for it in found] == ["W020", "W027"]


@pytest.mark.parametrize(("jwt", "reason"), WEAK_KEYS)
def test_a_weak_key_is_named_and_not_shown(jwt: Any, reason: str) -> None:
    """Neither it nor a part of it."""
    (message,) = exposed({"jwt": jwt})
    key = jwt.get("key") or jwt["keys"]["a"]
    assert reason in message.msg
    assert key not in message.msg + str(message.hint)


def test_one_worker_process_needs_no_other_bus(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the server's own variable says so."""
    monkeypatch.setenv("WEB_CONCURRENCY", "1")
    assert exposed({"bus": "memory"}) == []
    monkeypatch.setenv("WEB_CONCURRENCY", "4")
    (message,) = exposed({"bus": "memory"})
    assert "has 4 worker processes" in message.msg
