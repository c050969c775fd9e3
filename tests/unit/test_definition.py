"""Declarations: options, the functions that can be tasks, and the registry."""

import functools
import importlib
import importlib.util
import math
import os
import re
import runpy
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from asgiref.sync import markcoroutinefunction
from django.test import override_settings
from strawberry.permission import BasePermission

from rail_async_tasks import registry as module
from rail_async_tasks.declaration.definition import define
from rail_async_tasks.declaration.options import TaskOptions
from rail_async_tasks.errors import TaskDeclarationError
from rail_async_tasks.registry import Registry, autodiscover


async def report(root, info, dataset_id: str, token: str = ""):  # type: ignore[no-untyped-def]
    """Generate a report.

    With a second paragraph.
    """


def import_rows(rows: list[int]) -> None: ...


class Allowed(BasePermission):
    message = "no"

    def has_permission(self, source: Any, info: Any, **kwargs: Any) -> bool:
        return False


def declared(qualname: str, name: str, home: str = "shop.tasks") -> Any:
    """A definition of a function that says it is `home.qualname`."""

    async def function() -> None: ...

    function.__qualname__ = qualname
    function.__module__ = home
    return define(function, name=name)


def test_a_coroutine_function_is_defined_as_written() -> None:
    """Name, kind, leading parameters, codec and description come from the function."""
    task = define(report)

    assert (task.name, task.is_coroutine) == ("report", True)
    assert (task.takes_root, task.takes_info) == (True, True)
    assert (task.module, task.qualname) == (__name__, "report")
    assert task.options.description == "Generate a report.\n\nWith a second paragraph."
    assert task.decode(task.encode({"dataset_id": "42"})) == {"dataset_id": "42"}


def test_a_def_is_a_thread_task() -> None:
    """It takes neither root nor info here, and has no description."""
    task = define(import_rows, name="shop.import-rows")

    assert (task.name, task.is_coroutine) == ("shop.import-rows", False)
    assert (task.takes_root, task.takes_info) == (False, False)
    assert task.options.description is None


def test_an_origin_says_where_a_task_is_written() -> None:
    """Module, function, file and line, to be found from a message."""
    assert re.fullmatch(
        rf"{re.escape(__name__)}\.report \({re.escape(__file__)}:\d+\)", str(define(report).origin)
    )


def test_a_definition_and_its_options_are_frozen() -> None:
    """Declarations do not change while tasks run."""
    task = define(report)

    with pytest.raises(AttributeError):
        task.name = "other"  # type: ignore[misc]
    with pytest.raises(AttributeError):
        task.options.timeout = 1  # type: ignore[misc]


def test_unset_options_leave_the_value_to_the_settings() -> None:
    """None where a setting has the default, a value of its own elsewhere."""
    options = define(import_rows).options

    assert options == TaskOptions(
        queue=None,
        priority=None,
        max_retries=None,
        retry_delay=None,
        retry_backoff=None,
        retry_on=(Exception,),
        timeout=None,
        track_progress=True,
        rerun_on_crash=True,
        unique=False,
        sensitive=frozenset(),
        description=None,
        permission_classes=(),
        cron=None,
        catch_up=False,
    )


def test_options_are_kept_in_frozen_forms() -> None:
    """Lists become tuples and sets; one exception type may stand by itself."""
    options = define(
        report,
        queue="high",
        priority=-5,
        max_retries=0,
        retry_delay=0,
        retry_backoff=False,
        retry_on=OSError,
        timeout=0.5,
        sensitive=["token"],
        description="Own words",
        permission_classes=[Allowed],
    ).options

    assert (options.queue, options.priority) == ("high", -5)
    assert (options.max_retries, options.retry_delay, options.retry_backoff) == (0, 0, False)
    assert options.retry_on == (OSError,)
    assert options.sensitive == frozenset({"token"})
    assert options.permission_classes == (Allowed,)
    assert options.description == "Own words"


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("queue", "", "the name of a queue"),
        ("queue", " high", "the name of a queue"),
        ("queue", "q" * 101, "the name of a queue"),
        ("queue", 3, "the name of a queue"),
        ("priority", 1.5, "a whole number"),
        ("priority", True, "a whole number"),
        ("priority", 2**31, "a whole number"),
        ("max_retries", -1, "a whole number from 0 up"),
        ("max_retries", "3", "a whole number from 0 up"),
        ("retry_delay", -0.1, "seconds from 0 up, not -0.1"),
        ("retry_delay", math.nan, "seconds from 0 up, not nan"),
        ("retry_backoff", 2, "True or False"),
        ("retry_backoff", 1, "True or False"),
        ("retry_on", (), "at least one exception type"),
        ("retry_on", [ValueError("x")], "a list of exception types"),
        ("retry_on", BaseException, "a list of exception types"),
        ("retry_on", "ValueError", "a list of exception types"),
        ("timeout", 0, "seconds, more than 0, not 0"),
        ("timeout", math.inf, "seconds, more than 0, not inf"),
        (
            "timeout",
            "5",
            "seconds, more than 0, not '5'; write a number, as an int or a float",
        ),
        ("track_progress", None, "True or False"),
        ("rerun_on_crash", 1, "True or False"),
        ("unique", "dataset_id", "True or False"),
        ("sensitive", "token", "a list of names of arguments"),
        ("sensitive", [3], "a list of names of arguments"),
        ("sensitive", ["tokn"], "names of arguments, and 'tokn' is none"),
        ("sensitive", ["info"], "names of arguments, and 'info' is none"),
        ("description", "", "a string that is not empty"),
        ("permission_classes", [Allowed()], "a list of Strawberry permission classes"),
        ("permission_classes", int, "a list of Strawberry permission classes"),
        ("cron", " ", "a string that is not empty"),
        ("cron", "* * * * *", "on a task that runs without arguments; give 'dataset_id' a default"),
        ("catch_up", 1, "True or False"),
        ("catch_up", True, "given together with cron"),
    ],
)
def test_a_wrong_option_fails_at_declaration(option: str, value: object, message: str) -> None:
    """The error names the task, the option and what it must be."""
    with pytest.raises(TaskDeclarationError) as refused:
        define(report, **{option: value})

    assert str(refused.value) == (
        f"Task 'report' ({__name__}.report): option {option!r} must be {message}."
    )


def test_an_unknown_option_suggests_a_name() -> None:
    """A misspelt option is not ignored."""
    with pytest.raises(TaskDeclarationError, match="no option 'max_retry'; did you mean 'max_re"):
        define(report, max_retry=3)


@pytest.mark.parametrize("name", ["", "a b", "<lambda>", "a\0", "n" * 256, 3])
def test_a_name_must_be_printable_and_short(name: Any) -> None:
    """It is a column, a metric's label and part of messages."""
    with pytest.raises(TaskDeclarationError, match="name must be a string of 1 to 255"):
        define(report, name=name)


def test_a_lambda_needs_a_name() -> None:
    """Its own name says nothing."""
    with pytest.raises(TaskDeclarationError, match="name must be"):
        define(lambda: None)

    assert define(lambda: None, name="nothing").name == "nothing"


async def an_async_generator(n: int) -> Any:
    yield n


def a_generator(n: int) -> Iterator[int]:
    yield n


class CallableObject:
    def __call__(self) -> None: ...

    def method(self) -> None: ...


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (a_generator, "is a generator; a task returns its result"),
        (an_async_generator, "is a generator; a task returns its result"),
        (functools.partial(import_rows, [1]), "is not a function; a task is a plain def"),
        (CallableObject(), "is not a function; a task is a plain def"),
        (CallableObject().method, "is not a function; a task is a plain def"),
        (CallableObject, "is not a function; a task is a plain def"),
        (staticmethod(import_rows), "is not a function; a task is a plain def"),
    ],
)
def test_what_is_not_a_plain_function_fails(function: Any, message: str) -> None:
    """Generators, partials, callable objects, methods and classes are recognised and refused."""
    with pytest.raises(TaskDeclarationError, match=message):
        define(function)


def test_a_decorator_that_hides_a_coroutine_function_fails() -> None:
    """It would run in a thread and return a coroutine that is never awaited."""

    def plain(function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            return function(*args, **kwargs)

        return wrapper

    with pytest.raises(TaskDeclarationError, match="async def behind a decorator that is not"):
        define(plain(report))
    assert define(markcoroutinefunction(plain(report))).is_coroutine
    assert define(plain(import_rows)).codec.parameters[0].name == "rows"


def test_the_registry_knows_tasks_by_name_and_kind() -> None:
    """The two sets of names together are all names; an unknown name is None."""
    registry = Registry()
    task = registry.register(define(report, queue="high"))
    registry.register(define(import_rows))

    assert registry.get("report") is task
    assert registry.get("nothing") is None
    assert registry.coroutine_names == frozenset({"report"})
    assert registry.thread_names == frozenset({"import_rows"})
    assert registry.names() == frozenset({"report", "import_rows"})
    assert [it.name for it in registry.definitions()] == ["report", "import_rows"]
    assert registry.queues() == frozenset({"high"})


def test_two_functions_cannot_have_one_name() -> None:
    """The error names both places, and the first stays."""
    registry = Registry()
    first = registry.register(declared("clean", "clean"))

    with pytest.raises(TaskDeclarationError) as refused:
        registry.register(declared("clean", "clean", home="blog.tasks"))

    assert str(refused.value).startswith("Two tasks are named 'clean': shop.tasks.clean (")
    assert " and blog.tasks.clean (" in str(refused.value)
    assert registry.get("clean") is first


@pytest.fixture
def registered(monkeypatch: pytest.MonkeyPatch) -> Registry:
    """The process's registry, which forgets after the test."""
    for name in ("_definitions", "coroutine_names", "thread_names"):
        monkeypatch.setattr(module.registry, name, getattr(module.registry, name))
    return module.registry


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str, str], Path]]:
    """Writes a module that can be imported during the test."""
    monkeypatch.syspath_prepend(tmp_path)
    written: list[str] = []

    def write(name: str, text: str) -> Path:
        path = tmp_path.joinpath(*name.split(".")).with_suffix(".py")
        path.parent.mkdir(exist_ok=True)
        path.write_text("from rail_async_tasks import task\n" + textwrap.dedent(text))
        importlib.invalidate_caches()
        written.append(name)
        return path

    yield write
    for name in written:
        sys.modules.pop(name, None)


TWO = """
@task(name="twice-it")
async def it() -> int:
    return 1

@task(name="twice-it")
def it() -> int:
    return 2
"""
ONE = """
@task(name="twice-it")
async def it() -> int:
    return 1
"""
FACTORY = """
def make(name: str = "twice-it"):
    @task(name=name)
    async def it() -> None: ...
    return it
"""


def test_a_second_function_of_the_same_name_fails_at_import(
    registered: Registry, write: Any
) -> None:
    """Although Python forgets the first one; the error names both lines, and the first stays."""
    write("twice_same", TWO)
    with pytest.raises(TaskDeclarationError, match=r"Two tasks.*\.py:3\) and .*\.py:7\)"):
        importlib.import_module("twice_same")
    found = registered.get("twice-it")
    assert found is not None
    assert found.is_coroutine


IN_A_THREAD = """
import threading
make()
failed = []
def work():
    try:
        make()
    except Exception as error:
        failed.append(error)
thread = threading.Thread(target=work)
thread.start()
thread.join()
raise failed[0]
"""


@pytest.mark.parametrize(
    "calls",
    [
        "make()\nmake()",
        "kept = [make() for _ in range(2)]",
        "class A:\n    it = make()\nclass B:\n    it = make()",
        IN_A_THREAD,
    ],
    ids=["calls", "loop", "classes", "thread"],
)
def test_a_factory_that_makes_a_task_twice_fails(
    registered: Registry, write: Any, calls: str
) -> None:
    """The same line is two tasks if it runs twice; under two names it may."""
    write("twice_factory", FACTORY + "\nmake('twice-other')\n" + calls)
    with pytest.raises(TaskDeclarationError, match="Two tasks are named 'twice-it'"):
        importlib.import_module("twice_factory")
    assert {"twice-it", "twice-other"} <= registered.names()


def test_a_factory_that_two_modules_use_fails(registered: Registry, write: Any) -> None:
    """For the second of them; each may be reloaded."""
    write("twice_factory", FACTORY)
    write("twice_a", "from twice_factory import make\nit = make()")
    write("twice_b", "from twice_factory import make\nit = make()")
    first = importlib.import_module("twice_a")
    with pytest.raises(TaskDeclarationError, match="Two tasks are named 'twice-it'"):
        importlib.import_module("twice_b")
    importlib.reload(first)
    assert registered.get("twice-it") is first.it.definition


def test_a_factory_that_runs_later_fails_the_second_time(registered: Registry, write: Any) -> None:
    """Where no module is being imported: in an app's `ready()`, say."""
    write("twice_factory", FACTORY)
    make = importlib.import_module("twice_factory").make
    first = make()
    with pytest.raises(TaskDeclarationError, match="Two tasks are named 'twice-it'"):
        make()
    assert registered.get("twice-it") is first.definition


def test_a_reloaded_module_replaces_its_tasks(registered: Registry, write: Any) -> None:
    """Changed or not; what was a coroutine may have become a function."""
    path = write("twice_reloaded", ONE)
    loaded = importlib.import_module("twice_reloaded")
    first = loaded.it.definition
    importlib.reload(loaded)
    again = loaded.it.definition
    assert registered.get("twice-it") is again is not first

    path.write_text(path.read_text().replace("async def", "def") + "\n# of another size")
    importlib.reload(loaded)
    assert registered.get("twice-it") is loaded.it.definition
    assert "twice-it" not in registered.coroutine_names
    assert "twice-it" in registered.thread_names


def test_two_files_loaded_under_one_name_are_no_reload(registered: Registry, write: Any) -> None:
    """As loaders of plug-ins do: the second file's task is not the first one's."""
    paths = [write("twice_plugged_a", ONE), write("twice_plugged_b", ONE)]

    def load(path: Path) -> None:
        spec = importlib.util.spec_from_file_location("twice_plugged", path)
        assert spec is not None
        assert spec.loader is not None
        spec.loader.exec_module(importlib.util.module_from_spec(spec))

    load(paths[0])
    with pytest.raises(TaskDeclarationError):
        load(paths[1])
    load(paths[0])


def test_a_module_that_failed_or_was_forgotten_is_imported_again(
    registered: Registry, write: Any
) -> None:
    """Autoreloaders and tests take it out of `sys.modules`; a broken import leaves it out."""
    path = write("twice_broken", ONE + "\nraise KeyError")
    with pytest.raises(KeyError):
        importlib.import_module("twice_broken")
    path.write_text(path.read_text().replace("raise KeyError", ""))
    loaded = importlib.import_module("twice_broken")
    del sys.modules["twice_broken"]
    again = importlib.import_module("twice_broken")
    assert loaded.it is not again.it
    assert registered.get("twice-it") is again.it.definition


def test_one_file_under_two_names_says_so(registered: Registry, write: Any) -> None:
    """A folder that is on the path beside its parent; the remedy is another one than a name."""
    write("twice_shop.__init__", "")
    path = write("twice_shop.twice_jobs", ONE)
    importlib.import_module("twice_shop.twice_jobs")
    sys.path.insert(0, str(path.parent))
    try:
        with pytest.raises(TaskDeclarationError, match="one file, imported under two names"):
            importlib.import_module("twice_jobs")
    finally:
        sys.path.remove(str(path.parent))
        sys.modules.pop("twice_jobs", None)


@pytest.mark.parametrize("first", ["script", "module"])
def test_a_script_may_import_itself(registered: Registry, write: Any, first: str) -> None:
    """`python -m shop.tasks` declares under `__main__` what the app's discovery imports."""
    path = write("twice_script", ONE)
    if first == "module":
        importlib.import_module("twice_script")
    runpy.run_path(str(path), run_name="__main__")
    if first == "script":
        importlib.import_module("twice_script")
    assert "twice-it" in registered.names()


def test_a_cell_that_runs_again_replaces_its_tasks(registered: Registry) -> None:
    """At a prompt and in notebooks and doctests, whatever they call their code; not in one run."""
    namespace: dict[str, Any] = {"__name__": "__main__"}
    cell = f"from rail_async_tasks import task\n{ONE}"
    for name in ("<module>", "<module>", "<cell line: 1>"):
        code = compile(cell, "<stdin>", "exec").replace(co_name=name)
        exec(code, namespace)
        assert registered.get("twice-it") is namespace["it"].definition
    with pytest.raises(TaskDeclarationError, match="Two tasks are named 'twice-it'"):
        exec(compile(cell + ONE, "<stdin>", "exec"), namespace)


def test_registering_from_many_threads_loses_nothing() -> None:
    """Modules are imported in several threads under some servers."""
    registry = Registry()
    start = threading.Barrier(8)

    def work(thread: int) -> None:
        start.wait()
        for number in range(50):
            registry.register(declared(f"f{thread}_{number}", f"task-{thread}-{number}"))

    threads = [threading.Thread(target=work, args=(thread,)) for thread in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(registry.names()) == len(registry.definitions()) == 400


def test_resolving_reports_every_open_annotation_at_once() -> None:
    """Errors that an import cannot show are raised before the first use, all at once."""
    registry = Registry()

    def one(a: "Nowhere") -> None: ...  # type: ignore[name-defined]  # noqa: F821
    def two(b: "Neither") -> None: ...  # type: ignore[name-defined]  # noqa: F821

    registry.register(define(one))
    registry.register(define(two))

    with pytest.raises(TaskDeclarationError) as refused:
        registry.resolve()

    assert "'Nowhere'" in str(refused.value)
    assert "'Neither'" in str(refused.value)


def test_autodiscover_imports_tasks_of_installed_apps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each app's `tasks` module is imported, then its forward references are resolved."""
    app = tmp_path / "discovered_app"
    app.mkdir()
    (app / "__init__.py").write_text("")
    (app / "tasks.py").write_text(
        "from rail_async_tasks import registry\n"
        "from rail_async_tasks.declaration import definition\n"
        "def found(value: 'Later'): ...\n"
        "registry.registry.register(definition.define(found))\n"
        "Later = int\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    registry = Registry()
    monkeypatch.setattr(module, "registry", registry)

    with override_settings(INSTALLED_APPS=["discovered_app"]):
        autodiscover()

    task = registry.get("found")
    assert task is not None
    assert task.decode(task.encode({"value": 1})) == {"value": 1}


def test_every_process_knows_the_tasks_of_schema_extensions() -> None:
    """Their modules are imported at start, whatever else of the schema is: a worker has no URLs."""
    code = (
        "import sys, django; django.setup()\n"
        "from rail_async_tasks.registry import registry\n"
        "urls = 'tests.projects.acceptance.urls'\n"
        "print(registry.get('bad.give') is not None, urls in sys.modules)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"DJANGO_SETTINGS_MODULE": "tests.projects.acceptance.settings"},
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "True False\n"
