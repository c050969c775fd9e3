"""What a task's page offers to copy: reads and repeats of the task, in four languages.

Each text works when it is pasted. Tokens and passwords are variables of the shell.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from rail_async_tasks.codec.encryption import MARK
from rail_async_tasks.dashboard.literals import Imports, NotWritable, literal
from rail_async_tasks.declaration.definition import TaskDefinition
from rail_async_tasks.declare import Task
from rail_async_tasks.errors import TaskError
from rail_async_tasks.graphql.names import new_names
from rail_async_tasks.snapshot import TaskSnapshot


@dataclass(frozen=True, slots=True)
class Snippet:
    """One text to copy. `language` names the tab, `note` what has to be filled in."""

    key: str
    language: str
    text: str
    note: str = ""


@dataclass(frozen=True, slots=True)
class Places:
    """Absolute URLs of this site; None where the project does not serve them."""

    rest: str | None


_BEARER: Final = "$TOKEN is a bearer token of a user who may see the task."


def reads(task: TaskSnapshot, places: Places) -> list[Snippet]:
    """Returns the texts that read the task."""
    found = []
    names = new_names()
    field = names.get("task", "task")
    if field is not None:
        found.append(Snippet("graphql", "GraphQL", _query(field, task)))
    if places.rest is not None:
        command = _curl(f"{places.rest}{task.id}/")
        found.append(Snippet("curl", "curl", command, _BEARER))
    found.append(
        Snippet(
            "python",
            "Python",
            "from rail_async_tasks.models import TaskExecution\n\n"
            f'TaskExecution.objects.get(id="{task.id}")',
        )
    )
    found.append(Snippet("cli", "Command line", f"python manage.py tasks show {task.id}"))
    return found


def repeats(
    task: TaskSnapshot,
    places: Places,
    definition: TaskDefinition | None,
    stored: Mapping[str, Any],
) -> list[Snippet]:
    """Returns the texts that start the task again.

    GraphQL, curl and the command line retry it by its id, which a finished task allows; Python
    starts the task with the same arguments. `stored` are the arguments as the row has them.
    """
    found = []
    if task.is_final:
        field = new_names().get("retryTask", "retryTask")
        if field is not None:
            found.append(Snippet("graphql", "GraphQL", _mutation(field, task)))
        if places.rest is not None:
            command = _curl(f"{places.rest}{task.id}/retry/", "-X POST ")
            found.append(Snippet("curl", "curl", command, _BEARER))
    if definition is not None:
        python = _start(task, definition, stored)
        if python is not None:
            found.append(python)
    if task.is_final:
        found.append(Snippet("cli", "Command line", f"python manage.py tasks retry {task.id}"))
    return found


def _query(field: str, task: TaskSnapshot) -> str:
    return (
        f'query {{\n  {field}(id: "{task.id}") {{\n    id name status progress progressMessage\n'
        "    result error errorCode\n    createdAt startedAt completedAt\n  }\n}"
    )


def _mutation(field: str, task: TaskSnapshot) -> str:
    return (
        f'mutation {{\n  {field}(id: "{task.id}") {{\n    taskId\n    status\n    error\n  }}\n}}'
    )


def _curl(url: str, method: str = "") -> str:
    return f'curl {method}-H "Authorization: Bearer $TOKEN" {shlex.quote(url)}'


def _start(
    task: TaskSnapshot, definition: TaskDefinition, stored: Mapping[str, Any]
) -> Snippet | None:
    """Returns the Python that starts the task with the same arguments; None if there is none."""
    imports = Imports()
    try:
        name = _importable(definition, imports)
        arguments, hidden = _arguments(definition, stored, imports)
    except (NotWritable, TaskError):
        return None
    options = _options(task)
    call = f"{name}.using({options})" if options else name
    text = "\n".join([*imports.lines, "", f"{call}.enqueue({arguments})"])
    note = ""
    if hidden:
        note = f"Fill in {', '.join(hidden)}: sensitive arguments are not shown."
    return Snippet("python", "Python", text, note)


def _importable(definition: TaskDefinition, imports: Imports) -> str:
    function: Callable[..., Any] = definition.function
    task = Imports.find(definition.module, definition.qualname)
    if not isinstance(task, Task) or task.definition is not definition:
        raise NotWritable(function.__qualname__)
    return imports.named(definition.module, definition.qualname, task)


def _arguments(
    definition: TaskDefinition, stored: Mapping[str, Any], imports: Imports
) -> tuple[str, list[str]]:
    """Returns the arguments of the call, and the names of those that are not shown."""
    hidden = [
        name
        for name, value in stored.items()
        if name in definition.options.sensitive
        or (isinstance(value, dict) and value.keys() == {MARK})
    ]
    open_ones = {name: value for name, value in stored.items() if name not in hidden}
    values, mistakes = definition.codec.decode_each(open_ones)
    if any(name in mistakes for name in open_ones):
        raise NotWritable(definition.name)
    parts = [
        f"{name}=..." if name in hidden else f"{name}={literal(values[name], imports)}"
        for name in stored
    ]
    return ", ".join(parts), hidden


def _options(task: TaskSnapshot) -> str:
    found = {
        "queue": task.queue,
        "priority": task.priority,
        "owner": task.owner_id,
        "tenant_id": task.tenant_id,
    }
    return ", ".join(f"{key}={value!r}" for key, value in found.items() if value is not None)
