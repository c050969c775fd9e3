"""Tasks that write into the schema of their tenant."""

from __future__ import annotations

import asyncio
from typing import Any

import strawberry
from asgiref.sync import sync_to_async
from django.db import connection

from rail_async_tasks import task_mutation
from tests.projects.tenants.notes.models import Note


def where() -> str:
    return str(connection.schema_name)  # type: ignore[attr-defined]


@task_mutation
def add_note(root: Any, info: Any, text: str) -> dict[str, Any]:
    """Add a note, in a thread."""
    Note.objects.create(text=text)
    return {"schema": where(), "notes": [it.text for it in Note.objects.order_by("id")]}


@task_mutation
async def add_note_slowly(root: Any, info: Any, text: str, rounds: int) -> dict[str, Any]:
    """Add a note, in many calls between which others run."""
    schemas = set()
    for number in range(rounds):
        info.context.task.update_progress(100 * number // rounds)
        schemas.add(await sync_to_async(where)())
        await Note.objects.acreate(text=f"{text} {number}")
        await asyncio.sleep(0.01)
    return {"schemas": sorted(schemas), "user": info.context.user.get_username()}


@strawberry.type
class Mutations:
    add_note = add_note
    add_note_slowly = add_note_slowly
