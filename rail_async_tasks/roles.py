"""The role of this process: whether it was started to run the tasks that a broker brings.

Without a broker it makes no difference: each process runs what it claims.
"""

from __future__ import annotations

from enum import StrEnum


class Role(StrEnum):
    """Stored in the process's row. `web` is any process that is no worker: a command, too."""

    WEB = "web"
    WORKER = "worker"


_role = Role.WEB


def become_worker() -> None:
    """Marks this process, and those that it forks, as a worker, for as long as it lives."""
    global _role
    _role = Role.WORKER


def role() -> Role:
    """Returns this process's role."""
    return _role
