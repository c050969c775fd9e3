"""Names that other task libraries have, with what to write here in their place.

Newcomers bring `.delay()` from Celery, `.send()` from Dramatiq, `.kiq()` from Taskiq, `.defer()`
from Procrastinate, and `info.context.request` from their resolvers.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from rail_async_tasks.text import sentence

_START: Final = "Start the task by {it}.enqueue(...), in async code by `await {it}.aenqueue(...)`."
_START_WITH_OPTIONS: Final = (
    f'{_START} Options go before it: {{it}}.using(delay=60, queue="low").enqueue(...).'
)
_NO_CHAINS: Final = (
    "There are no signatures, chains and groups: start the next task in the body of the one before."
)
_RUN_HERE: Final = (
    "To run the body here and now, in a test: rail_async_tasks.testing.run_task({it}, ...)."
)
_WAIT: Final = (
    "Wait by {it}.result(timeout), in async code by `await {it}.aresult(timeout)`; it returns the"
    " result, or raises TaskFailed or TaskCancelled."
)
_STATE: Final = (
    "Read the task again by {it}.refresh(), in async code by `await {it}.arefresh()`; {it}.status"
    ' is then "pending", "running", "retrying", "completed", "failed" or "cancelled".'
)
_IN_SNAPSHOT: Final = (
    "Read {it}.snapshot.{name}: as it was when the task was last read. Read the task again by"
    " {it}.refresh(), in async code by `await {it}.arefresh()`."
)
_TRACEBACK: Final = (
    "Staff read tracebacks: by `manage.py tasks show ID`, in the admin, by"
    " TaskExecution.objects.get(id={it}.id).traceback. The exception's class is"
    " {it}.snapshot.error_type."
)
_CANCEL: Final = "End the task by {it}.cancel(), in async code by `await {it}.acancel()`."
_PROGRESS: Final = "Report progress by {it}.update_progress(percent, message)."
_NO_REQUEST: Final = (
    "A body has no request, as it may run in another process: {it}.user is the user who started the"
    " task, {it}.tenant_id the tenant. Pass what else it needs as arguments."
)

Remedies = Mapping[str, str]


def _remedies(*groups: tuple[str, str]) -> dict[str, str]:
    return {name: remedy for names, remedy in groups for name in names.split()}


# By the name that is asked for. `{it}` is the object as the caller has it.
OF_TASKS: Final[Remedies] = _remedies(
    ("delay send kiq defer enqueue_async async_enqueue submit", _START),
    ("apply_async send_with_options kicker configure schedule enqueue_at", _START_WITH_OPTIONS),
    ("s si signature chain chord group message pipe", _NO_CHAINS),
    ("apply run call_local", _RUN_HERE),
)
# Attributes of the snapshot, which a handle does not repeat.
OF_SNAPSHOTS: Final = (
    "name", "queue", "priority", "progress", "progress_message", "error", "error_code",
    "error_type", "cancel_requested", "attempts", "retry_count", "max_retries", "owner_id",
    "tenant_id", "parent_id", "seq", "step", "version", "is_final", "created_at", "updated_at",
    "run_after", "started_at", "completed_at", "expires_at",
)  # fmt: skip
OF_HANDLES: Final[Remedies] = _remedies(
    ("get get_result wait wait_result join return_value", _WAIT),
    ("state ready successful failed done completed is_finished is_success", _STATE),
    ("revoke abort terminate stop", _CANCEL),
    ("task_id job_id pk uuid", "The id is {it}.id."),
    ("message info meta", _IN_SNAPSHOT.format(name="progress_message", it="{it}")),
    ("exception", _IN_SNAPSHOT.format(name="error", it="{it}")),
    ("owner", _IN_SNAPSHOT.format(name="owner_id", it="{it}")),
    ("retries", _IN_SNAPSHOT.format(name="retry_count", it="{it}")),
    ("traceback", _TRACEBACK),
    *((name, _IN_SNAPSHOT.format(name=name, it="{it}")) for name in OF_SNAPSHOTS),
)
OF_RUNNING_TASKS: Final[Remedies] = _remedies(
    ("update_state set_progress set_state update_meta set_meta", _PROGRESS),
    ("retry", "Ask for another attempt by `raise rail_async_tasks.Retry(delay=60)`."),
    ("is_aborted is_cancelled", "Read {it}.cancel_requested, or call {it}.raise_if_cancelled()."),
    ("request", "{it} itself has id, name, attempt and queue."),
)
OF_CONTEXTS: Final[Remedies] = _remedies(("request response session headers", _NO_REQUEST))


def missing(owner: object, name: str, remedies: Remedies, it: str) -> AttributeError:
    """Returns the error of an attribute that an object does not have.

    Args:
        remedies: by name, what to do instead.
        it: the object, as the caller has written it.
    """
    message = f"{type(owner).__name__!r} object has no attribute {name!r}"
    remedy = remedies.get(name)
    if remedy is None:
        return AttributeError(message, name=name, obj=owner)
    # Without `obj`, from which Python would guess a name.
    return AttributeError(f"{sentence(message)} {remedy.format(it=it)}")
