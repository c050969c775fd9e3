"""Sets Django up in a peer's environment, with that peer's tables in the sample's database."""

from __future__ import annotations

import asyncio
import json
import os


async def set_up(*apps: str) -> None:
    """In a thread: Django's command refuses to wait for the database in an event loop."""
    await asyncio.to_thread(_set_up, apps)


def _set_up(apps: tuple[str, ...]) -> None:
    os.environ["DJANGO_SETTINGS_MODULE"] = "benchmarks.peers.django_settings"
    os.environ["PEER_APPS"] = json.dumps(apps)
    import django
    from django.core.management import call_command

    django.setup()
    call_command("migrate", verbosity=0, skip_checks=True)


async def none_left(query: str) -> bool:
    """Whether the query finds no row."""
    from asgiref.sync import sync_to_async

    return await sync_to_async(_none_left)(query)


def _none_left(query: str) -> bool:
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute(query)
        return cursor.fetchone() is None
