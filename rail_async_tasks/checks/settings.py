"""Checks the settings and the objects that they name (E001 to E013, E015)."""

from __future__ import annotations

import importlib.util
import inspect
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Final, TypeAlias

from django.apps import AppConfig
from django.core.checks import CheckMessage, Error, Warning
from strawberry import Schema
from strawberry.extensions import SchemaExtension
from strawberry.schema.config import StrawberryConfig
from strawberry.types import has_object_definition

from rail_async_tasks import conf
from rail_async_tasks.backends.port import port_problem
from rail_async_tasks.errors import ConfigurationError
from rail_async_tasks.redis_address import RedisAddress
from rail_async_tasks.text import sentence

APP: Final = "rail_async_tasks"

# Value of the setting: the extra to install, and the packages that it brings.
_BACKENDS: Final = {
    "arq": ("arq", ("arq",)),
    "celery": ("celery", ("celery",)),
    "dramatiq": ("dramatiq", ("dramatiq",)),
    "django_q": ("django-q", ("django_q",)),
}
_BUSES: Final = {"redis": ("redis", ("redis",))}


def check_settings(app_configs: Sequence[AppConfig] | None, **_: Any) -> list[CheckMessage]:
    """Reports every mistake in the settings themselves (E001 to E011, W001, W002)."""
    return [
        (Error if problem.level == "error" else Warning)(
            problem.message, hint=problem.hint, id=problem.id
        )
        for problem in conf.validate()
    ]


def check_dotted_paths(app_configs: Sequence[AppConfig] | None, **_: Any) -> list[CheckMessage]:
    """Imports the objects of dotted paths and checks their types (E012, E013)."""
    parsed = conf.read()
    found = [*extension_problems(parsed), *schema_problems(parsed)]
    for key, problem_of in DOTTED_KEYS.items():
        value = parsed.task_values.get(key)
        if value is not None and "." in value:  # a backend may be a bare name
            found += import_problems(value, f'task_settings["{key}"]', "E013", problem_of)
    return found


def extension_problems(parsed: conf.Parsed) -> list[CheckMessage]:
    """Returns a problem per extension that cannot be imported, or is no type (E012)."""
    return [
        problem
        for key, paths in parsed.extensions.items()
        for path in paths
        for problem in import_problems(path, f'schema_settings["{key}"]', "E012", _EXTENSION)
    ]


def schema_problems(parsed: conf.Parsed) -> list[CheckMessage]:
    """Returns the problems of `schema`, `config` and `extensions` (E012, E013)."""
    values = parsed.schema_values
    named = [
        *((path, "extensions", "E012") for path in values.get("extensions", ())),
        *((values[key], key, "E013") for key in ("schema", "config") if values.get(key)),
    ]
    return [
        problem
        for path, key, number in named
        for problem in import_problems(path, f'schema_settings["{key}"]', number, _SCHEMA_KEYS[key])
    ]


# Returns what is wrong with the object of a dotted path, and the remedy; None if it is right.
ProblemOf: TypeAlias = Callable[[Any], tuple[str, str] | None]


def _must_be(expected: str, is_right: Callable[[Any], bool]) -> ProblemOf:
    def problem_of(value: Any) -> tuple[str, str] | None:
        if is_right(value):
            return None
        kind = value.__qualname__ if isinstance(value, type) else type(value).__name__
        message = f"is not {expected} but {kind}."
        return message, f"Name {expected} there, or remove it."

    return problem_of


_CLASS: Final = _must_be("a backend class", lambda value: isinstance(value, type))
_EXTENSION: Final = _must_be(
    "a Strawberry type (a class under @strawberry.type)", has_object_definition
)
_CALLABLE: Final = _must_be("callable", callable)


def _around_problem(value: Any) -> tuple[str, str] | None:
    """Returns what keeps `around_task` from making context managers."""
    if (problem := _CALLABLE(value)) is not None:
        return problem
    for is_bare, above in (
        (inspect.isgeneratorfunction, "@contextlib.contextmanager"),
        (inspect.isasyncgenfunction, "@contextlib.asynccontextmanager"),
    ):
        if is_bare(value):
            return "yields, but makes no context manager.", f"Put {above} above it."
    try:
        inspect.signature(value).bind(None)
    except TypeError as error:
        hint = "Let it take one argument, the attempt (rail_async_tasks.AttemptInfo)."
        return sentence(f"cannot be called with one argument: {error}"), hint
    except ValueError:  # a class in C may have no signature
        pass
    return None


def _is_schema_extension(value: Any) -> bool:
    if isinstance(value, type):
        return issubclass(value, SchemaExtension)
    return isinstance(value, SchemaExtension) or callable(value)


_SCHEMA_KEYS: Final[dict[str, ProblemOf]] = {
    "schema": _must_be("a strawberry.Schema", lambda value: isinstance(value, Schema)),
    "config": _must_be("a StrawberryConfig", lambda value: isinstance(value, StrawberryConfig)),
    "extensions": _must_be(
        "a Strawberry schema extension (a class, an instance, or a function that returns one)",
        _is_schema_extension,
    ),
}

DOTTED_KEYS: Final[dict[str, ProblemOf]] = {
    "backend": lambda value: _CLASS(value) or port_problem(value),
    "celery_app": _must_be("a Celery app", lambda value: hasattr(value, "send_task")),
    "failure_callback": _CALLABLE,
    "tenant_resolver": _CALLABLE,
    "authenticator": _CALLABLE,
    "around_task": _around_problem,
}


def import_problems(
    path: str, place: str, number: str, problem_of: ProblemOf
) -> Iterator[CheckMessage]:
    """Yields the error `number` if the dotted path at `place` cannot be used."""
    check_id = f"{APP}.{number}"
    try:
        value = conf.import_from_setting(path, place)
    except ConfigurationError as error:
        module, _, name = path.rpartition(".")
        hint = f'Check the spelling, and that "from {module} import {name}" works.'
        yield Error(str(error), hint=hint, id=check_id)
        return
    if (problem := problem_of(value)) is not None:
        message, hint = problem
        yield Error(f'{place}: "{path}" {message}', hint=hint, id=check_id)


def check_packages(app_configs: Sequence[AppConfig] | None, **_: Any) -> list[CheckMessage]:
    """Reports settings whose Python package is missing (E015)."""
    found: list[CheckMessage] = []
    for place, extra, packages in _needed(conf.read()):
        missing = [package for package in packages if not _is_installed(package)]
        if missing:
            message = f"{place} needs {' and '.join(missing)}, which cannot be imported."
            hint = f'Install it: pip install "rail_async_tasks[{extra}]".'
            found.append(Error(message, hint=hint, id=f"{APP}.E015"))
    return found


def _needed(parsed: conf.Parsed) -> Iterator[tuple[str, str, Iterable[str]]]:
    """Yields a setting's place, the extra that installs its packages, and the packages."""
    values = parsed.task_values
    for key, known in (("backend", _BACKENDS), ("bus", _BUSES)):
        if (needed := known.get(values.get(key, ""))) is not None:
            yield f'task_settings["{key}"]', *needed
    if (jwt := values.get("jwt")) is not None:
        by_secret = jwt.algorithms[0].startswith("HS")
        yield 'task_settings["jwt"]', "jwt", ("jwt",) if by_secret else ("jwt", "cryptography")
    if values.get("encryption_keys") is not None:
        yield 'task_settings["encryption_keys"]', "crypto", ("cryptography",)
    if values.get("metrics_enabled"):
        yield 'task_settings["metrics_enabled"]', "metrics", ("prometheus_client",)
    if values.get("otel_enabled"):
        yield 'task_settings["otel_enabled"]', "otel", ("opentelemetry",)


def check_redis_url(app_configs: Sequence[AppConfig] | None, **_: Any) -> list[CheckMessage]:
    """Reports a `redis_url` that redis-py cannot read (E006)."""
    values = conf.read().task_values
    url = values.get("redis_url")
    used = values.get("bus") == "redis" or values.get("backend") == "arq"
    if not used or not isinstance(url, str) or not _is_installed("redis"):
        return []
    try:
        RedisAddress(url)
    except ConfigurationError as error:
        hint = 'Write "redis://:password@host:6379/0", and options as redis-py names them.'
        return [Error(str(error), hint=hint, id=f"{APP}.E006")]
    return []


def check_jwt_keys(app_configs: Sequence[AppConfig] | None, **_: Any) -> list[CheckMessage]:
    """Reports keys of `jwt` that cannot be read (E010)."""
    jwt = conf.read().task_values.get("jwt")
    if jwt is None or not (_is_installed("jwt") and _is_installed("cryptography")):
        return []
    from rail_async_tasks.auth.jwt import Verifier

    try:
        Verifier(jwt)
    except ConfigurationError as error:
        hint = (
            "Write the key that the algorithms are for: a public key in PEM, or for HS... a secret."
        )
        return [Error(str(error), hint=hint, id=f"{APP}.E010")]
    return []


def _is_installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):  # a parent that does not import; a half-imported module
        return False
