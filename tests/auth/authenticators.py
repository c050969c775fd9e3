"""Authenticators of a project, one for each thing that one may do."""

from __future__ import annotations

from typing import Any

from django.contrib.auth.models import AnonymousUser, User
from django.utils.functional import SimpleLazyObject

from rail_async_tasks import Unauthenticated

asked: list[Any] = []


def _name(subject: Any) -> str | None:
    asked.append(subject)
    source = subject if isinstance(subject, dict) else subject.headers
    name: str | None = source.get("x-user")
    if name == "refuse":
        raise Unauthenticated("because of the moon")
    if name == "break":
        raise ValueError(f"no good: {source.get('authorization')}")
    if name == "stop":
        raise StopIteration
    return name


def plain(subject: Any) -> Any:
    name = _name(subject)
    return None if name is None else User.objects.get(username=name)


async def awaited(subject: Any) -> Any:
    name = _name(subject)
    return None if name is None else await User.objects.aget(username=name)


def lazy(subject: Any) -> Any:
    name = _name(subject)
    return SimpleLazyObject(lambda: User.objects.get(username=name))


async def lazily_awaited(subject: Any) -> Any:
    name = _name(subject)
    return SimpleLazyObject(lambda: User.objects.get(username=name))


class _Callable:
    async def __call__(self, subject: Any) -> Any:
        return await awaited(subject)


an_object = _Callable()


def anonymous(subject: Any) -> Any:
    return AnonymousUser()


def a_name(subject: Any) -> Any:
    return "ada"


async def a_pair(subject: Any) -> Any:
    return (await User.objects.afirst(), None)
