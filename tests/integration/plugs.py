"""One implementation of every hook that a project has, and a switch for what all of them do."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import strawberry
from django.contrib.auth.models import Group
from strawberry.extensions.field_extension import FieldExtension
from strawberry.permission import BasePermission

from rail_async_tasks import AttemptInfo, task, task_mutation

# What one call on the loop may cost, in seconds, and how often: there nothing can be done about it.
ON_LOOP, TIMES = 0.01, 5
# What ends a loop, a thread or a future that is not prepared for it, besides ordinary errors.
ERRORS = (KeyError, SystemExit, StopIteration, asyncio.CancelledError, GeneratorExit)


class Switch:
    """Counts the calls of each hook, and has them do what the test wants."""

    def __init__(self) -> None:
        self.calls: Counter[str] = Counter()
        self.act: Callable[[str], None] = nothing
        self.gate = threading.Event()

    def __call__(self, hook: str) -> None:
        self.calls[hook] += 1
        self.act(hook)


def nothing(hook: str) -> None:
    """As a hook that has been written well."""


def raises(hook: str) -> None:
    """Raises another error each time; without a connection there would be nothing to see."""
    if hook == "connection_created" and switch.calls[hook] > 2:
        return
    raise ERRORS[switch.calls[hook] % len(ERRORS)]


def blocks(hook: str) -> None:
    """In a thread until it is let go; for a moment on the loop, and where others wait for it.

    `emit` is called with the handler's lock held, for which a line on the loop would wait; so is
    the text of an exception. A body's ORM thread, in which `around_task` is, is also others'.
    """
    others_wait = ("connection_created", "log handler", "exception", "around_task")
    if asyncio._get_running_loop() is not None or hook in others_wait:
        if switch.calls[hook] <= TIMES:
            time.sleep(ON_LOOP)
    else:
        switch.gate.wait(600)


def enqueues(hook: str) -> None:
    """Uses the ORM and starts a task, which raises where the thread must not do either."""
    if switch.calls[hook] > TIMES:  # what logs each start of a task would start tasks for ever
        return
    if hook != "connection_created":
        Group.objects.count()
    extra.enqueue()


switch = Switch()


# --- tasks ----------------------------------------------------------------------------------------


@task(name="plugs.innocent", max_retries=0)
async def innocent(n: int) -> int:
    await asyncio.sleep(0)
    return n


@task(name="plugs.innocent_in_thread", max_retries=0)
def innocent_in_thread(n: int) -> int:
    return n


@task(name="plugs.fall", max_retries=0)
async def fall() -> None:
    raise ValueError("it fails for good")


@task(name="plugs.rude_result", max_retries=0)
async def rude_result() -> Any:
    return Result()


@task(name="plugs.rude_exception", max_retries=0)
def rude_exception() -> None:
    raise Rude


@task(name="plugs.wrapped", max_retries=0)
async def wrapped() -> None: ...


@task(name="plugs.wrapped_in_thread", max_retries=0)
def wrapped_in_thread() -> None: ...


@task(name="plugs.extra")
async def extra() -> None: ...


# --- hooks of a request: it says which of them is to act ------------------------------------------


def asked(request: Any, hook: str) -> None:
    if request.headers.get("x-hook") == hook:
        switch(hook)


class Odd:
    """A user whose flags are the project's code."""

    pk = 7

    def _flag(self) -> bool:
        switch("user model")
        return True

    is_active = is_staff = property(_flag)
    is_authenticated, is_superuser = True, False

    def has_perm(self, permission: str) -> bool:
        return self._flag()

    def __str__(self) -> str:
        switch("user model")
        return "odd"


def authenticator(request: Any) -> Any:
    asked(request, "authenticator")
    return Odd() if request.headers.get("x-hook") == "user model" else None


def tenant_resolver(request: Any) -> None:
    asked(request, "tenant_resolver")


class Permission(BasePermission):
    def has_permission(self, source: Any, info: Any, **kwargs: Any) -> bool:
        asked(info.context.request, "permission")
        return True


class Extension(FieldExtension):
    def resolve(self, next_: Any, source: Any, info: Any, **kwargs: Any) -> Any:
        asked(info.context.request, "field extension")
        return next_(source, info, **kwargs)


class AsyncExtension(FieldExtension):
    async def resolve_async(self, next_: Any, source: Any, info: Any, **kwargs: Any) -> Any:
        asked(info.context.request, "async field extension")
        return await next_(source, info, **kwargs)


@task_mutation(
    name="plugs.guarded",
    permission_classes=[Permission],
    extensions=[Extension(), AsyncExtension()],
)
async def guarded() -> int:
    return 7


@strawberry.type
class Mutations:
    guarded = guarded


# --- hooks of the runtime -------------------------------------------------------------------------


def failure_callback(**keywords: str) -> None:
    switch("failure_callback")


@contextmanager
def around(info: AttemptInfo) -> Iterator[None]:
    """Acts around the tasks that are there for it: without it no body may run."""
    if info.name.startswith("plugs.wrapped"):
        switch("around_task")
    yield


def on_span(event: str, span: Any) -> None:
    """Acts in the span processor, at every second start: without a start there is no end."""
    switch.calls["spans"] += event == "on_start"
    if event == "on_start" and switch.calls["spans"] % 2:
        return
    switch(f"span {event}")


class Result(Mapping[str, int]):
    """A result whose keys are code."""

    def __iter__(self) -> Iterator[str]:
        switch("result")
        return iter(())

    def __getitem__(self, key: str) -> int:
        raise KeyError(key)

    def __len__(self) -> int:
        return 0


class Rude(Exception):
    """An exception whose text is code."""

    def __str__(self) -> str:
        switch("exception")
        return "rude"


class Observer:
    """See `observers.Observer`."""

    def __getattr__(self, name: str) -> Any:
        return lambda *args: switch("observer")


class Handler(logging.Handler):
    """Acts in its filter, and in its formatter where it comes that far."""

    def filter(self, record: logging.LogRecord) -> bool:
        if switch.calls["log filter"] % 2:
            switch.calls["log filter"] += 1
            return True
        switch("log filter")
        return True

    def emit(self, record: logging.LogRecord) -> None:
        switch("log handler")


def on_connection(**_: Any) -> None:
    if threading.current_thread().name.startswith("rail-tasks-"):
        switch("connection_created")
