"""The options of a declaration, as type checkers see them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, TypedDict

if TYPE_CHECKING:
    from strawberry.extensions.field_extension import FieldExtension
    from strawberry.permission import BasePermission


class TaskKeywords(TypedDict, total=False):
    """The options of a declaration beside its name. The settings hold for those left out."""

    queue: str
    priority: int
    max_retries: int
    retry_delay: float
    retry_backoff: bool
    retry_on: type[Exception] | Iterable[type[Exception]]
    timeout: float
    track_progress: bool
    rerun_on_crash: bool
    unique: bool
    sensitive: Iterable[str]
    description: str
    permission_classes: Iterable[type[BasePermission]]
    extensions: Iterable[FieldExtension]


class ScheduledKeywords(TaskKeywords, total=False):
    """The options of a task that may run on a schedule."""

    cron: str
    catch_up: bool
