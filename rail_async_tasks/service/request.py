"""One start of a task: what its caller asks for, checked once, as the row to store."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Final
from uuid import UUID

import msgspec
from django.conf import settings as django_settings
from django.utils import timezone

from rail_async_tasks.conf import TaskSettings, get_settings
from rail_async_tasks.declaration.definition import TaskDefinition
from rail_async_tasks.errors import (
    MAX_DELAY,
    InvalidArguments,
    TasksDisabled,
    UnknownQueue,
    is_delay,
)
from rail_async_tasks.ids import new_id
from rail_async_tasks.language import language_to_carry
from rail_async_tasks.ledger.records import NewExecution
from rail_async_tasks.registry import registry
from rail_async_tasks.runtime.attempts.options import resolve_options
from rail_async_tasks.runtime.limits import Limits, limits_for
from rail_async_tasks.runtime.unique import unique_key
from rail_async_tasks.text import counted, is_storable

# In characters: the width of the columns.
MAX_ID: Final = 255
MAX_INT: Final = 2**31 - 1
# The largest difference, in seconds, between the clocks of this machine and of the ledger.
MAX_SKEW: Final = 86400.0


class EnqueueOptions(msgspec.Struct, frozen=True):
    """How one execution differs from its task's declaration.

    Attributes:
        run_after: an aware time; a naive one is in the current time zone, or in `TIME_ZONE` where
            `USE_TZ` is off. It and `delay` exclude each other.
        delay: in seconds, or a timedelta.
        unique_key: while a task with the same key is unfinished, that one is returned.
        actor: who caused the start, for the audit: a user's id; by default the project's own code.
        anonymous: a caller without an identity asks; `rate_limit` counts all of those together.
        address: what an anonymous caller's waiting tasks are counted by; None: not counted.
    """

    queue: str | None = None
    priority: int | None = None
    run_after: datetime | None = None
    delay: float | timedelta | None = None
    unique_key: str | None = None
    owner_id: str | None = None
    tenant_id: str | None = None
    parent_id: UUID | None = None
    actor: str | None = None
    anonymous: bool = False
    address: str | None = None


AS_DECLARED: Final = EnqueueOptions()


def enabled_settings() -> TaskSettings:
    """Returns the settings. Raises `TasksDisabled` where `enabled` is off."""
    settings = get_settings()
    if not settings.enabled:
        raise TasksDisabled
    return settings


class Template:
    """The columns that the rows of a start, or of many alike, have in common: checked once.

    Raises:
        InvalidArguments, UnknownQueue: an option breaks its rule.
    """

    __slots__ = (
        "_definition", "_delay", "_keyed", "_most", "_options", "_priority", "_queue", "_retries",
        "_run_after", "actor",
    )  # fmt: skip

    def __init__(
        self, definition: TaskDefinition, options: EnqueueOptions, settings: TaskSettings
    ) -> None:
        _check_texts(options)
        defaults = resolve_options(definition, settings)
        if options.queue is not None:
            _check_queue(options.queue, settings)
        self._definition = definition
        self._options = options
        self._most = settings.max_args_bytes
        self._queue = defaults.queue if options.queue is None else options.queue
        self._priority = _priority(options, defaults.priority)
        self._retries = defaults.retry.max_retries
        self._keyed = options.unique_key is not None or definition.options.unique
        self._delay, self._run_after = _delay(options), _run_after(options)
        self.actor = options.actor or ("anonymous" if options.anonymous else "system")

    def row(self, arguments: bytes, language: str | None) -> NewExecution:
        """Returns the row for arguments as JSON.

        Raises:
            InvalidArguments: they are too large.
        """
        definition, options = self._definition, self._options
        if len(arguments) > self._most:
            size = counted(len(arguments), "byte")
            raise InvalidArguments(
                f"The arguments of {definition.name} are {size} of JSON, over the limit of"
                f" {self._most} (max_args_bytes). Pass an id and read the data there."
            )
        return NewExecution(
            id=new_id(),
            name=definition.name,
            queue=self._queue,
            priority=self._priority,
            arguments=definition.stored(arguments),
            max_retries=self._retries,
            rerun_on_crash=definition.options.rerun_on_crash,
            actor=self.actor,
            owner_id=options.owner_id,
            tenant_id=options.tenant_id,
            parent_id=options.parent_id,
            unique_key=self._key(arguments) if self._keyed else None,
            language=language,
            delay=self._delay,
            run_after=self._run_after,
        )

    def _key(self, arguments: bytes) -> str | None:
        options = self._options
        return unique_key(
            self._definition,
            arguments,
            given=options.unique_key,
            tenant_id=options.tenant_id,
            owner_id=options.owner_id,
        )


# Those of starts without options, by the task's name: valid for its definition and the settings.
_templates: dict[str, tuple[TaskDefinition, TaskSettings, Template]] = {}


def template_for(
    definition: TaskDefinition, options: EnqueueOptions, settings: TaskSettings
) -> Template:
    """Returns the template of starts with these options. Raises as that does."""
    if options is not AS_DECLARED:
        return Template(definition, options, settings)
    known = _templates.get(definition.name)
    if known is not None and known[0] is definition and known[1] is settings:
        return known[2]
    template = Template(definition, options, settings)
    _templates[definition.name] = (definition, settings, template)
    return template


def carried_language(settings: TaskSettings) -> str | None:
    """Returns the language that rows of the current context carry."""
    return language_to_carry() if settings.carry_language else None


def new_execution(
    definition: TaskDefinition, arguments: bytes, options: EnqueueOptions, settings: TaskSettings
) -> NewExecution:
    """Returns the row to store for one start. `arguments` is JSON.

    Raises:
        InvalidArguments, UnknownQueue: an option or the size of the arguments breaks its rule.
    """
    template = template_for(definition, options, settings)
    return template.row(arguments, carried_language(settings))


def limits_of(
    owner_id: str | None, options: EnqueueOptions, settings: TaskSettings, *, inline: bool
) -> Limits | None:
    """Returns the limits on the creations that a caller asks for; None where there is none."""
    return limits_for(
        settings, owner_id, anonymous=options.anonymous, address=options.address, inline=inline
    )


def _check_queue(queue: str, settings: TaskSettings) -> None:
    known = settings.queues.keys() | registry.queues()
    if not isinstance(queue, str) or queue not in known:
        raise UnknownQueue(
            f"There is no queue {queue!r}. Known are {', '.join(sorted(known))}; add others to the"
            ' "queues" setting.'
        )


def _check_texts(options: EnqueueOptions) -> None:
    for name, text, limit in (
        ("owner", options.owner_id, MAX_ID),
        ("tenant_id", options.tenant_id, MAX_ID),
        ("unique_key", options.unique_key, math.inf),  # only its hash is stored
    ):
        if text is not None and not (
            isinstance(text, str) and is_storable(text) and len(text) <= limit
        ):
            most = "" if limit == math.inf else f" of at most {MAX_ID} characters"
            raise InvalidArguments(
                f"{name} must be a string{most} without NUL and unpaired surrogates, not"
                f" {str(text)!a:.100}."
            )


def _priority(options: EnqueueOptions, default: int) -> int:
    priority = default if options.priority is None else options.priority
    if type(priority) is not int or abs(priority) > MAX_INT:
        raise InvalidArguments(f"priority must be a 32-bit integer, not {priority!r:.100}.")
    return priority


def _delay(options: EnqueueOptions) -> float | None:
    delay = options.delay
    if delay is None:
        return None
    if options.run_after is not None:
        raise InvalidArguments("Give either delay or run_after, not both.")
    seconds = delay.total_seconds() if isinstance(delay, timedelta) else delay
    if not is_delay(seconds):
        raise InvalidArguments(f"delay must be 0 seconds to 100 years, not {delay!r}.")
    return float(seconds) or None


def _run_after(options: EnqueueOptions) -> datetime | None:
    run_after = options.run_after
    if run_after is None:
        return None
    if not isinstance(run_after, datetime):
        raise InvalidArguments(f"run_after must be a datetime, not {run_after!r}.")
    try:
        if timezone.is_naive(run_after):
            run_after = timezone.make_aware(run_after, _naive_zone())
        # Not `timezone.now()`, which is naive where USE_TZ is off.
        seconds = (run_after - datetime.now(UTC)).total_seconds()
    except (OverflowError, ValueError):
        # In UTC the time is before year 1 or after year 9999.
        seconds = math.copysign(math.inf, run_after.year - 2000)
    if seconds > MAX_DELAY:
        raise InvalidArguments(f"run_after must be at most 100 years away, not {run_after!r}.")
    # One that has just passed by this machine's clock may be yet to come by the ledger's.
    return None if seconds < -MAX_SKEW else run_after.astimezone(UTC)


def _naive_zone() -> tzinfo:
    """Returns the zone of naive times, as Django defines it."""
    if django_settings.USE_TZ:
        return timezone.get_current_timezone()
    return timezone.get_default_timezone()
