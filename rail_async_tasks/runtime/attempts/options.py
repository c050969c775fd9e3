"""A task's options, with the settings' defaults filled in, and the policy of an attempt."""

from __future__ import annotations

from typing import TypeVar

import msgspec

from rail_async_tasks.conf import TaskSettings
from rail_async_tasks.declaration.definition import TaskDefinition
from rail_async_tasks.retry import RetryPolicy
from rail_async_tasks.runtime.attempts.outcomes import AttemptPolicy
from rail_async_tasks.snapshot import TaskSnapshot

T = TypeVar("T")


class ResolvedOptions(msgspec.Struct, frozen=True):
    """A definition's options, with the settings' defaults filled in. Times are in seconds."""

    queue: str
    priority: int
    timeout: float | None
    retry: RetryPolicy


# By name; valid for the definition and the settings that it was made from.
_known: dict[str, tuple[TaskDefinition, TaskSettings, ResolvedOptions]] = {}


def resolve_options(definition: TaskDefinition, settings: TaskSettings) -> ResolvedOptions:
    """Returns the options of `definition`; one that was not given takes the setting's value."""
    known = _known.get(definition.name)
    if known is not None and known[0] is definition and known[1] is settings:
        return known[2]
    result = _resolve(definition, settings)
    _known[definition.name] = (definition, settings, result)
    return result


def _resolve(definition: TaskDefinition, settings: TaskSettings) -> ResolvedOptions:
    options = definition.options
    return ResolvedOptions(
        queue=_or(options.queue, settings.default_queue),
        priority=_or(options.priority, 0),
        timeout=_or(options.timeout, settings.timeout),
        retry=RetryPolicy(
            max_retries=_or(options.max_retries, settings.max_retries),
            delay=_or(options.retry_delay, settings.retry_delay),
            backoff=_or(options.retry_backoff, settings.retry_backoff),
            max_delay=settings.retry_max_delay,
            jitter=settings.retry_jitter,
            retry_on=options.retry_on,
        ),
    )


def policy_for(
    snapshot: TaskSnapshot,
    definition: TaskDefinition,
    settings: TaskSettings,
    callback_hold: float | None,
) -> AttemptPolicy:
    """Returns the rules by which the attempt that `snapshot` shows ends.

    `callback_hold` is for how many seconds this process may make the failure callback, if there is
    one.
    """
    options = resolve_options(definition, settings)
    return AttemptPolicy(
        retry=options.retry,
        retry_count=snapshot.retry_count,
        max_retries=snapshot.max_retries,
        rerun_on_crash=definition.options.rerun_on_crash,
        timeout=options.timeout,
        ttl=settings.result_ttl_seconds,
        max_result_bytes=settings.max_result_bytes,
        callback_hold=callback_hold,
    )


def _or(option: T | None, default: T) -> T:
    return default if option is None else option
