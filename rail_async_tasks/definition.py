"""What a task is, as declared: function, options, codec; and the registry of them all."""

from __future__ import annotations

import difflib
import inspect
import math
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any, Final

from asgiref.sync import iscoroutinefunction
from django.utils.module_loading import autodiscover_modules
from strawberry.permission import BasePermission

from rail_async_tasks.codec import ArgumentsCodec
from rail_async_tasks.codec.encryption import decrypt, encrypt
from rail_async_tasks.conf import get_settings
from rail_async_tasks.errors import TaskDeclarationError
from rail_async_tasks.origin import Origin

# The columns' sizes.
_MAX_NAME: Final = 255
_MAX_QUEUE: Final = 100
_MAX_INT: Final = 2**31 - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskOptions:
    """The options of a declaration. `None` leaves a value to the settings; times are seconds.

    `timeout` is for one attempt. Past it the body is asked to end; if it returns within
    `cancel_grace_seconds` the task has completed all the same, as its work is done.

    Raises `TaskDeclarationError` that names the option.
    """

    queue: str | None = None
    priority: int | None = None
    max_retries: int | None = None
    retry_delay: float | None = None
    retry_backoff: bool | None = None
    retry_on: tuple[type[Exception], ...] = (Exception,)
    timeout: float | None = None
    track_progress: bool = True
    rerun_on_crash: bool = True
    unique: bool = False
    sensitive: frozenset[str] = frozenset()
    description: str | None = None
    permission_classes: tuple[type[BasePermission], ...] = ()
    cron: str | None = None
    catch_up: bool = False

    def __post_init__(self) -> None:
        for name in ("track_progress", "rerun_on_crash", "unique", "catch_up"):
            _require(isinstance(getattr(self, name), bool), name, "True or False")
        known = self.retry_backoff is None or isinstance(self.retry_backoff, bool)
        _require(known, "retry_backoff", "True or False")
        if self.queue is not None:
            named = isinstance(self.queue, str) and 0 < len(self.queue) <= _MAX_QUEUE
            _require(named and self.queue.strip() == self.queue, "queue", "the name of a queue")
        if self.priority is not None:
            _require(_is_int(self.priority, -_MAX_INT), "priority", "a whole number")
        if self.max_retries is not None:
            _require(_is_int(self.max_retries, 0), "max_retries", "a whole number from 0 up")
        if self.retry_delay is not None:
            fits = _is_seconds(self.retry_delay) and self.retry_delay >= 0
            _require(fits, "retry_delay", "seconds from 0 up")
        if self.timeout is not None:
            fits = _is_seconds(self.timeout) and self.timeout > 0
            _require(fits, "timeout", "seconds, more than 0")
        self._tidy("retry_on", "exception types", tuple, _is_exception_type)
        self._tidy("sensitive", "names of arguments", frozenset, lambda it: isinstance(it, str))
        self._tidy("permission_classes", "Strawberry permission classes", tuple, _is_permission)
        for name in ("description", "cron"):
            text = getattr(self, name)
            fits = text is None or (isinstance(text, str) and text.strip() != "")
            _require(fits, name, "a string that is not empty")
        _require(not self.catch_up or self.cron is not None, "catch_up", "given together with cron")

    def _tidy(
        self,
        name: str,
        what: str,
        build: Callable[[Iterable[Any]], object],
        fits: Callable[[Any], bool],
    ) -> None:
        """Turn a list (or one type by itself) into its frozen form."""
        given = getattr(self, name)
        items = [given] if isinstance(given, type) else given
        # A string is a sequence too: sensitive="token" would mean t, o, k, e and n.
        _require(isinstance(items, (list, tuple, set, frozenset)), name, f"a list of {what}")
        _require(all(map(fits, items)), name, f"a list of {what}")
        _require(name != "retry_on" or len(items) > 0, name, "at least one exception type")
        object.__setattr__(self, name, build(items))


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class TaskDefinition:
    """A task as declared. Knows nothing about one run."""

    name: str
    function: Callable[..., Any]
    is_coroutine: bool
    takes_root: bool
    takes_info: bool
    codec: ArgumentsCodec
    options: TaskOptions
    origin: Origin

    @property
    def module(self) -> str:
        return self.function.__module__

    @property
    def qualname(self) -> str:
        return self.function.__qualname__

    def encode(self, values: Mapping[str, Any]) -> bytes:
        """The arguments as JSON. Raises `InvalidArguments`."""
        return self.codec.encode(values)

    def stored(self, arguments: bytes) -> str:
        """What `encode` wrote, as the row keeps it: sensitive arguments encrypted.

        Raises `ConfigurationError` where there is no key to encrypt them with.
        """
        names = self.options.sensitive
        if names:
            keys = get_settings().encryption_keys
            arguments = encrypt(arguments, keys, task=self.name, names=names)
        return arguments.decode()

    def plain(self, stored: bytes | str) -> bytes | str:
        """The reverse of `stored`. Raises `InvalidArguments` too, where no key fits."""
        names = self.options.sensitive
        if not names:
            return stored
        keys = get_settings().encryption_keys
        return decrypt(stored, keys, task=self.name, names=names)

    def decode(self, stored: bytes | str) -> dict[str, Any]:
        """The arguments as Python values, for the function. Raises as `plain`."""
        return self.codec.decode(self.plain(stored))


def define(
    function: Callable[..., Any], *, name: str | None = None, **options: Any
) -> TaskDefinition:
    """Make a definition of a plain `def` or `async def`; it is not registered yet.

    `options` are those of `TaskOptions`. Raises `TaskDeclarationError`.
    """
    is_coroutine = _kind_of(function)
    name = function.__name__ if name is None else name
    if not (isinstance(name, str) and _is_name(name)):
        raise TaskDeclarationError(
            f"{_written(function)}: name must be a string of 1 to {_MAX_NAME} printable characters "
            f"without spaces or <>, not {name!r}."
        )
    codec = ArgumentsCodec(function, task=name)
    options.setdefault("description", inspect.getdoc(function) or None)
    try:
        checked = _options(options)
        _check_arguments(checked, codec)
    except TaskDeclarationError as error:
        raise TaskDeclarationError(f"Task {name!r} ({_written(function)}): {error}") from None
    return TaskDefinition(
        name=name,
        function=function,
        is_coroutine=is_coroutine,
        takes_root=codec.takes_root,
        takes_info=codec.takes_info,
        codec=codec,
        options=checked,
        origin=Origin.of(function),
    )


class Registry:
    """Every task that this process knows, by name. Writes are locked; reads need no lock.

    `coroutine_names` and `thread_names` are replaced, never changed, so that a claim can hand them
    to a query as they are.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._definitions: dict[str, TaskDefinition] = {}
        self.coroutine_names: frozenset[str] = frozenset()
        self.thread_names: frozenset[str] = frozenset()

    def register(self, definition: TaskDefinition) -> TaskDefinition:
        """Add a definition, or replace the same one after a reload of its module.

        Raises `TaskDeclarationError` if the name is taken: by another function, by one of the same
        name in the same module, or by an earlier call of a function that declares a task.
        """
        with self._lock:
            known = self._definitions.get(definition.name)
            if known is not None and not definition.origin.replaces(known.origin):
                remedy = "Give one of them another name=..."
                if definition.origin.is_copy_of(known.origin):
                    remedy = "It is one file, imported under two names: import it under one."
                raise TaskDeclarationError(
                    f"Two tasks are named {definition.name!r}: {known.origin} and "
                    f"{definition.origin}. {remedy}"
                )
            self._definitions = {**self._definitions, definition.name: definition}
            named = self._definitions.values()
            self.coroutine_names = frozenset(it.name for it in named if it.is_coroutine)
            self.thread_names = frozenset(it.name for it in named if not it.is_coroutine)
        return definition

    def get(self, name: str) -> TaskDefinition | None:
        return self._definitions.get(name)

    def names(self) -> frozenset[str]:
        return self.coroutine_names | self.thread_names

    def definitions(self) -> tuple[TaskDefinition, ...]:
        """All definitions, in the order of their declaration."""
        return tuple(self._definitions.values())

    def queues(self) -> frozenset[str]:
        """The queues that declarations name; those exist without a setting."""
        named = (definition.options.queue for definition in self.definitions())
        return frozenset(queue for queue in named if queue is not None)

    def resolve(self) -> None:
        """Read the annotations whose types were not defined when their tasks were declared.

        Raises one `TaskDeclarationError` with every task's mistake.
        """
        mistakes = []
        for definition in self.definitions():
            try:
                definition.codec.resolve()
            except TaskDeclarationError as error:
                mistakes.append(str(error))
        if mistakes:
            raise TaskDeclarationError("\n".join(mistakes))


registry: Final = Registry()


def autodiscover() -> None:
    """Import the `tasks` module of every installed app, then resolve what they left open."""
    autodiscover_modules("tasks")
    registry.resolve()


def _kind_of(function: Any) -> bool:
    """Whether the function is a coroutine function; raises if it is not a function at all."""
    if not inspect.isfunction(function):
        raise TaskDeclarationError(
            f"{function!r} is not a function; a task is a plain def or async def, so write one."
        )
    original = inspect.unwrap(function)
    for it in (function, original):
        if inspect.isgeneratorfunction(it) or inspect.isasyncgenfunction(it):
            raise TaskDeclarationError(
                f"{_written(function)} is a generator; a task returns its result. Call "
                "update_progress() where it yields."
            )
    is_coroutine = bool(iscoroutinefunction(function))
    if not is_coroutine and iscoroutinefunction(original):
        raise TaskDeclarationError(
            f"{_written(function)} is an async def behind a decorator that is not; make the "
            "decorator's wrapper an async def too."
        )
    return is_coroutine


def _options(given: Mapping[str, Any]) -> TaskOptions:
    known = [field.name for field in fields(TaskOptions)]
    for name in given:
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {close[0]!r}?" if close else f"there are {', '.join(known)}."
            raise TaskDeclarationError(f"there is no option {name!r}; {hint}")
    return TaskOptions(**given)


def _check_arguments(options: TaskOptions, codec: ArgumentsCodec) -> None:
    """The options that speak about the arguments."""
    names = [parameter.name for parameter in codec.parameters]
    for name in sorted(options.sensitive):
        _require(name in names, "sensitive", f"names of arguments, and {name!r} is none")
    if options.cron is not None:
        for parameter in codec.parameters:
            what = f"on a task that runs without arguments; give {parameter.name!r} a default"
            _require(not parameter.required, "cron", what)


def _require(fits: bool, option: str, what: str) -> None:
    if not fits:
        raise TaskDeclarationError(f"option {option!r} must be {what}.")


def _is_int(value: object, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= _MAX_INT


def _is_seconds(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _is_exception_type(value: object) -> bool:
    return isinstance(value, type) and issubclass(value, Exception)


def _is_permission(value: object) -> bool:
    return isinstance(value, type) and issubclass(value, BasePermission)


def _is_name(name: str) -> bool:
    return (
        0 < len(name) <= _MAX_NAME
        and name.isprintable()
        and not any(char in " <>" for char in name)
    )


def _written(function: Callable[..., Any]) -> str:
    return f"{function.__module__}.{function.__qualname__}"
