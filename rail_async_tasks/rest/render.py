"""Renders snapshots as REST's JSON, and describes its schema."""

from __future__ import annotations

from typing import Any, Final
from uuid import UUID

import msgspec

from rail_async_tasks.access import Viewer
from rail_async_tasks.conf import get_settings
from rail_async_tasks.public_errors import error_for
from rail_async_tasks.service import Tracebacks, answer_too_large
from rail_async_tasks.snapshot import TaskSnapshot
from rail_async_tasks.states import ErrorCode, Status

Schema = dict[str, Any]

_ID: Final[Schema] = {"type": "string", "format": "uuid"}
_TIME: Final[Schema] = {"type": "string", "format": "date-time"}
_COUNT: Final[Schema] = {"type": "integer", "minimum": 0}
_TEXT: Final[Schema] = {"type": "string"}


def _or_null(schema: Schema) -> Schema:
    return {**schema, "type": [schema["type"], "null"]}


def _said(schema: Schema, description: str) -> Schema:
    return {**schema, "description": description}


# Every field, in the order in which it is written: its name, and its JSON Schema.
FIELDS: Final[dict[str, Schema]] = {
    "id": _ID,
    "name": _TEXT,
    "status": {"type": "string", "enum": [status.value for status in Status]},
    "progress": {"type": "integer", "minimum": 0, "maximum": 100, "description": "Percent."},
    "progress_message": _or_null(_TEXT),
    "result": {"description": "What the task returned: any JSON value."},
    "error": _said(_or_null(_TEXT), "Why the task failed."),
    "error_code": {"type": ["string", "null"], "enum": [*(code.value for code in ErrorCode), None]},
    "error_type": _said(_or_null(_TEXT), "The class name of the exception, e.g. KeyError."),
    "queue": _TEXT,
    "priority": {"type": "integer", "description": "Higher starts first, within a queue."},
    "cancel_requested": {"type": "boolean"},
    "attempts": _COUNT,
    "retry_count": _COUNT,
    "max_retries": _COUNT,
    "owner_id": _or_null(_TEXT),
    "parent_id": _said(_or_null(_ID), "The task that this one runs again."),
    "seq": _said(_COUNT, "Grows with every change of state."),
    "step": _said(_COUNT, "Grows with every report of progress within a state."),
    "created_at": _TIME,
    "run_after": _said(_or_null(_TIME), "Not started before this time."),
    "started_at": _or_null(_TIME),
    "completed_at": _or_null(_TIME),
    "expires_at": _said(_or_null(_TIME), "Hidden from reads after this time."),
    "updated_at": _TIME,
    "traceback": _said(
        _or_null(_TEXT), "For superusers and staff with the right to view tasks; else null."
    ),
}

_encode: Final = msgspec.json.Encoder().encode


async def render_task(snapshot: TaskSnapshot, viewer: Viewer, *, in_stream: bool = False) -> bytes:
    """Returns the task as JSON in UTF-8, on one line. Times are RFC 3339, in UTC with a `Z`."""
    return _encode(await _fields(snapshot, Tracebacks(viewer, (snapshot,), in_stream=in_stream)))


async def render_page(
    snapshots: list[TaskSnapshot], following: UUID | None, viewer: Viewer
) -> bytes:
    """Returns a page of a list; `following` is the `after` of the next page."""
    tracebacks = Tracebacks(viewer, snapshots)
    results = [await _fields(snapshot, tracebacks) for snapshot in snapshots]
    return _encode({"results": results, "next": following})


def within_limit(body: bytes) -> bytes:
    """Returns the body. Raises `TooLarge` for one over `limits["answer_bytes"]`."""
    limit = get_settings().limits.answer_bytes
    if limit is not None and len(body) > limit:
        raise answer_too_large(limit)
    return body


async def _fields(snapshot: TaskSnapshot, tracebacks: Tracebacks) -> dict[str, Any]:
    fields = {name: getattr(snapshot, name, None) for name in FIELDS}
    fields["error"] = error_for(tracebacks.viewer, snapshot, get_settings().public_errors)
    fields["traceback"] = await tracebacks.aget(snapshot.id)
    return fields
