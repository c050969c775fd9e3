"""Filters of the list of tasks. None of them reads the table to find what it offers."""

from __future__ import annotations

import time
from typing import Any, Final

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest

from rail_async_tasks.admin.read_only import newest
from rail_async_tasks.conf import get_settings
from rail_async_tasks.errors import ConfigurationError
from rail_async_tasks.ids import first_id_at
from rail_async_tasks.models import TaskExecution
from rail_async_tasks.queue_limits import queue_limits
from rail_async_tasks.registry import registry
from rail_async_tasks.states import Status

AGES: Final = {"hour": 3600.0, "day": 86_400.0, "week": 7 * 86_400.0}


class StatusFilter(admin.SimpleListFilter):
    """By state. An index has them."""

    title = "status"
    parameter_name = "status"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(str(it), str(it)) for it in Status]

    def queryset(
        self, request: HttpRequest, queryset: QuerySet[TaskExecution]
    ) -> QuerySet[TaskExecution]:
        status = self.value()
        return queryset if status is None else queryset.filter(status=status)


class QueueFilter(admin.SimpleListFilter):
    """By queue, among the newest tasks."""

    title = "queue (of the newest 50,000 tasks)"
    parameter_name = "queue"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        try:
            limits = queue_limits(get_settings(), registry)
        except ConfigurationError:  # the checks say what is wrong; the list is there all the same
            return []
        return [(name, name) for name in sorted(it.name for it in limits)]

    def queryset(
        self, request: HttpRequest, queryset: QuerySet[TaskExecution]
    ) -> QuerySet[TaskExecution]:
        queue = self.value()
        return queryset if queue is None else newest(queryset).filter(queue=queue)


class AgeFilter(admin.SimpleListFilter):
    """By the time of creation, which ids have in them."""

    title = "created within the last"
    parameter_name = "created"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(it, it) for it in AGES]

    def queryset(
        self, request: HttpRequest, queryset: QuerySet[TaskExecution]
    ) -> QuerySet[TaskExecution]:
        seconds = AGES.get(self.value() or "")
        return (
            queryset
            if seconds is None
            else queryset.filter(id__gte=first_id_at(time.time() - seconds))
        )
