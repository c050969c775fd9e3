"""What does a WebSocket with a first subscription cost, and how fast do a thousand come back?"""

from __future__ import annotations

import asyncio
import gc
import time
from datetime import timedelta
from typing import Any

from asgiref.sync import sync_to_async

from benchmarks.harness import Case, Question
from benchmarks.streams import clients, resident_bytes, served

# So many open at a time, where they do not all come at once.
FEW = 20


async def ours(count: int, credential: str, at_once: bool = False) -> dict[str, float]:
    """Clients of one task without an owner; each is a user of its own, or has no credential."""
    from benchmarks.tasks import released, tell_the_time
    from rail_async_tasks.asgi import get_asgi_application

    port = await served(get_asgi_application)
    released.append(asyncio.Event())
    handle = await tell_the_time.aenqueue(count=1, pause=0.01)
    cookies = await sync_to_async(_sessions)(count) if credential == "session" else []
    return await _measure(port, str(handle.id), count, at_once, cookies)


async def bare(count: int, credential: str, at_once: bool = False) -> dict[str, float]:
    """The same frames from an application that knows no users, tasks or GraphQL."""
    from benchmarks.bare_streams import make_application

    return await _measure(await served(make_application), "1", count, at_once, [])


def _sessions(count: int) -> list[str]:
    """Returns the cookies of so many new users."""
    from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY
    from django.contrib.auth.models import User
    from django.contrib.sessions.backends.db import SessionStore
    from django.contrib.sessions.models import Session
    from django.utils import timezone

    first = User.objects.count()
    users = User.objects.bulk_create(
        User(username=f"user {first + number}", password="!") for number in range(count)
    )
    sessions = []
    for user in users:
        data = {
            SESSION_KEY: str(user.pk),
            BACKEND_SESSION_KEY: "django.contrib.auth.backends.ModelBackend",
            HASH_SESSION_KEY: user.get_session_auth_hash(),
        }
        store = SessionStore()
        sessions.append(
            Session(
                session_key=store._get_new_session_key(),  # noqa: SLF001
                session_data=store.encode(data),
                expire_date=timezone.now() + timedelta(days=1),
            )
        )
    Session.objects.bulk_create(sessions)
    return [f"sessionid={session.session_key}" for session in sessions]


async def _measure(
    port: int, task: str, count: int, at_once: bool, cookies: list[str]
) -> dict[str, float]:
    gc.collect()
    before, cpu = resident_bytes(), time.process_time()
    spec: dict[str, Any] = {
        "kind": "ws", "clients": count, "task": task, "events": 1, "cookies": cookies,
        "opening": count if at_once else FEW, "probe": "/tasks/health/live",
    }  # fmt: skip
    async with clients(port, spec) as them:
        joined = await them.answer()
        cpu = time.process_time() - cpu
        gc.collect()
        after = resident_bytes()
    return {
        "CPU ms/socket": cpu / count * 1e3,
        "KiB/socket": max(after - before, 1) / count / 1024,
        "last after s": joined["seconds to join"],
        "others' p99 ms": joined["p99 ms"],
    }


def _case(label: str, *, quick: bool = False, **more: Any) -> Case:
    return Case(
        label=label,
        measure=f"{__name__}:ours",
        beside=f"{__name__}:bare",
        parameters={"count": 1_000, **more},
        quick={"count": 20} if quick else None,
        database="sqlite",
        settings={
            "limits": {
                "sockets_per_address": None, "streams_per_user": None, "sockets_per_user": None
            }
        },
    )  # fmt: skip


QUESTION = Question(
    name="connections",
    title="WebSockets that open and subscribe to a task",
    beside="an application without a framework that accepts them and writes one frame",
    cases=[
        _case("1,000 without a credential, 20 at a time", credential="none", quick=True),
        _case("1,000 users by session, 20 at a time", credential="session"),
        _case("1,000 users by session, all at once", credential="session", at_once=True),
    ],
    repeats=3,
)
