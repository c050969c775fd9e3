"""The options of a task's declaration, each checked when it is given."""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields
from datetime import timedelta
from typing import Any, Final

from strawberry.extensions.field_extension import FieldExtension
from strawberry.permission import BasePermission

from rail_async_tasks.codec import ArgumentsCodec
from rail_async_tasks.errors import TaskDeclarationError

# The sizes of the columns.
_MAX_QUEUE: Final = 100
_MAX_INT: Final = 2**31 - 1

# What options of other task libraries are here.
_ELSEWHERE: Final = {
    "time_limit": "write timeout=..., in seconds.",
    "soft_time_limit": "write timeout=..., in seconds.",
    "bind": "leave it out, and take (info, ...): a body has its task in info.context.task.",
}


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
    extensions: tuple[FieldExtension, ...] = ()
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
            _require(fits, "retry_delay", f"seconds from 0 up, not {_shown(self.retry_delay)}")
        if self.timeout is not None:
            fits = _is_seconds(self.timeout) and self.timeout > 0
            _require(fits, "timeout", f"seconds, more than 0, not {_shown(self.timeout)}")
        self._tidy("retry_on", "exception types", tuple, _is_exception_type)
        self._tidy("sensitive", "names of arguments", frozenset, lambda it: isinstance(it, str))
        self._tidy("permission_classes", "Strawberry permission classes", tuple, _is_permission)
        what = "Strawberry field extensions: instances, such as IsAuthenticated()"
        self._tidy("extensions", what, tuple, lambda it: isinstance(it, FieldExtension))
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
        """Replace a list (or one type by itself) by its frozen form."""
        given = getattr(self, name)
        items = [given] if isinstance(given, type) else given
        # A string is a sequence too: sensitive="token" would mean t, o, k, e and n.
        _require(isinstance(items, (list, tuple, set, frozenset)), name, f"a list of {what}")
        _require(all(map(fits, items)), name, f"a list of {what}")
        _require(name != "retry_on" or len(items) > 0, name, "at least one exception type")
        object.__setattr__(self, name, build(items))


def read_options(given: Mapping[str, Any]) -> TaskOptions:
    """Returns the options. Raises `TaskDeclarationError` for an unknown name or a wrong value."""
    known = [field.name for field in fields(TaskOptions)]
    for name in given:
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {close[0]!r}?" if close else f"there are {', '.join(known)}."
            hint = _ELSEWHERE.get(name, hint)
            raise TaskDeclarationError(f"there is no option {name!r}; {hint}")
    return TaskOptions(**given)


def check_arguments(options: TaskOptions, codec: ArgumentsCodec) -> None:
    """Raises `TaskDeclarationError` where `sensitive` or `cron` do not fit the arguments."""
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


def _shown(value: object) -> str:
    if isinstance(value, timedelta):
        return f"a timedelta; write {value.total_seconds():g}"
    if isinstance(value, str):
        return f"{value!r:.80}; write a number, as an int or a float"
    return f"{value!r:.80}"


def _is_exception_type(value: object) -> bool:
    return isinstance(value, type) and issubclass(value, Exception)


def _is_permission(value: object) -> bool:
    return isinstance(value, type) and issubclass(value, BasePermission)
