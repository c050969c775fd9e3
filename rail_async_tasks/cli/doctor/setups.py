"""The broken set-ups that `tasks doctor` names, and a finding: one of them, found here."""

from __future__ import annotations

from typing import Any, Final, Literal, NamedTuple

Level = Literal["error", "warning"]

AREAS: Final = (
    "settings", "database", "migrations", "bus", "broker", "workers", "asgi", "clocks",
)  # fmt: skip


class Setup(NamedTuple):
    """A kind of broken set-up. An `error` makes the exit code 1, a `warning` does not."""

    area: str
    level: Level
    what: str
    remedy: str


class Finding(NamedTuple):
    """One thing that is wrong. `name` is one of `SETUPS`, or the id of a system check."""

    name: str
    area: str
    level: Level
    message: str
    remedy: str

    def document(self) -> dict[str, Any]:
        """Returns it for JSON."""
        return self._asdict()


# By name; docs/command-line.md has this table.
SETUPS: Final[dict[str, Setup]] = {
    "settings-unusable": Setup(
        "settings", "error", "the settings are wrong, so that every use of tasks is refused",
        "Mend what the settings' own findings name; `manage.py check` lists them too.",
    ),
    "tasks-disabled": Setup(
        "settings", "warning", "`enabled` is off: nothing is accepted and nothing runs",
        'Set task_settings["enabled"] to True, or leave it out.',
    ),
    "rows-in-memory": Setup(
        "settings", "warning", "`track_in_database` is off: no other process sees the tasks",
        'Set task_settings["track_in_database"] to True.',
    ),
    "sensitive-unreadable": Setup(
        "settings", "error", "waiting tasks have arguments that no key here decrypts",
        'Add the key of those days to the end of task_settings["encryption_keys"].',
    ),
    "database-unreachable": Setup(
        "database", "error", "the database of the tasks does not answer",
        "Start it, and compare DATABASES with its host, port, user and password; for SQLite with"
        " the file's path.",
    ),
    "database-read-only": Setup(
        "database", "error", "the tables can be read and not written",
        "Connect to the primary, not to a replica; grant INSERT, UPDATE and DELETE; for SQLite make"
        " the file and its folder writable.",
    ),
    "finished-not-deleted": Setup(
        "database", "warning", "tasks that expired over an hour ago are still there",
        "Keep a process of the project running, which deletes them, or run"
        " `manage.py cleanup_tasks --days 7`.",
    ),
    "tables-missing": Setup(
        "migrations", "error", "the database lacks tables or columns",
        "Run `manage.py migrate`.",
    ),
    "migrations-unapplied": Setup(
        "migrations", "error", "migrations of rail_async_tasks have not been applied",
        "Run `manage.py migrate rail_async_tasks`.",
    ),
    "migrations-unknown": Setup(
        "migrations", "warning", "the database has migrations that this version does not know",
        "Install the version that the other processes run.",
    ),
    "bus-unreachable": Setup(
        "bus", "error", "Redis does not answer: watchers in other processes are seconds late",
        'Start it, and compare task_settings["redis_url"] with its host, port and password.',
    ),
    "bus-refuses": Setup(
        "bus", "error", "Redis answers, and refuses to publish",
        "Permit PUBLISH and SUBSCRIBE on the channels of `subscription_channel` in its ACL, and"
        " connect to the primary.",
    ),
    "bus-within-one-process": Setup(
        "bus", "warning", "several processes run tasks, and the bus `memory` reaches only one",
        'Set task_settings["redis_url"], and leave "bus" out or set it to "redis".',
    ),
    "broker-unreachable": Setup(
        "broker", "error", "the backend's broker does not answer",
        "Start it, and compare its address in the project's settings.",
    ),
    "tasks-sent-elsewhere": Setup(
        "broker", "warning", "tasks are on their way to workers of another backend",
        "Run workers of that backend until they are done; those that get lost are sent again.",
    ),
    "tasks-not-collected": Setup(
        "broker", "error", "tasks were sent to workers over ten minutes ago, and none has begun",
        "Start workers that serve the queue, with the same database and broker.",
    ),
    "no-process": Setup(
        "workers", "warning", "no process that runs tasks is alive",
        "Start what runs tasks: the backend's workers, or the ASGI server where it has none.",
    ),
    "no-process-for-waiting": Setup(
        "workers", "error", "tasks are due, and no process that runs tasks is alive",
        "Start what runs tasks: the backend's workers, or the ASGI server where it has none.",
    ),
    "process-silent": Setup(
        "workers", "error", "a process no longer renews its lease: it was killed, or hangs",
        "Look at its log. Its tasks are taken over once another process is alive.",
    ),
    "tasks-orphaned": Setup(
        "workers", "error", "tasks are running in the name of a process that is dead",
        "Start a process of the project: it takes them over within seconds.",
    ),
    "tasks-unknown": Setup(
        "workers", "error", "tasks wait whose name no live process knows",
        "Deploy the code that declares them, or undo a rename; after `unknown_task_seconds` they"
        " fail.",
    ),
    "queue-stuck": Setup(
        "workers", "warning", "a task has been due for over ten minutes in a queue",
        "Add processes, raise `max_concurrency` or the queue's `concurrency` or `rate`, or cancel"
        " tasks that hang.",
    ),
    "queue-paused": Setup(
        "workers", "warning", "a queue is paused, and tasks wait in it",
        "Run `manage.py tasks resume QUEUE` once they may start.",
    ),
    "backlog-full": Setup(
        "workers", "error", "`max_pending` is reached: new tasks are refused with QUEUE_FULL",
        'Add processes, or raise task_settings["max_pending"].',
    ),
    "schedule-late": Setup(
        "workers", "warning", "a task with `cron` has missed its time",
        "Start a process of the project, and look for errors of the schedule in its log.",
    ),
    "no-asgi-server": Setup(
        "asgi", "warning", "no ASGI server is installed",
        'Install one: pip install "rail_async_tasks[uvicorn]", or daphne or hypercorn.',
    ),
    "no-websocket-library": Setup(
        "asgi", "warning", "uvicorn is installed without a WebSocket library",
        'Install one: pip install "rail_async_tasks[uvicorn]".',
    ),
    "server-unreachable": Setup(
        "asgi", "error", "the server of --url does not answer",
        "Start it, and check --url; it is what stands before tasks/health/ready.",
    ),
    "server-not-ready": Setup(
        "asgi", "error", "the server of --url answers that it takes no work",
        "docs/operations.md says what each of its answers means.",
    ),
    "clock-differs": Setup(
        "clocks", "error", "this machine's clock and the database's differ by over 10 seconds",
        "Synchronise both by NTP.",
    ),
    "clock-was-ahead": Setup(
        "clocks", "warning", "tasks were created in the future: a clock was ahead",
        "Synchronise the clocks by NTP; a live process corrects delays and leases by itself.",
    ),
}  # fmt: skip


def found(name: str, message: str, *, where: str = "") -> Finding:
    """Returns a finding of a known set-up, with what was found here.

    Args:
        where: a sentence that follows the remedy: what it means in this project.
    """
    setup = SETUPS[name]
    return Finding(name, setup.area, setup.level, message, f"{setup.remedy} {where}".rstrip())
