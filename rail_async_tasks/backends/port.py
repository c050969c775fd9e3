"""The backend port: where the executions of a project run, and what can be promised of that."""

from __future__ import annotations

from typing import Final, Protocol

import msgspec


class Capabilities(msgspec.Struct, frozen=True):
    """The wishes that a backend fulfils. The system checks refuse what goes beyond them.

    Attributes:
        priority: within a queue, waiting tasks of a higher priority start first.
        queue_priority: queues of a higher priority come first.
        queue_concurrency: `queues[...]["concurrency"]` is kept.
        cancel_running: a cancel reaches a running body; otherwise the body runs to its end.
    """

    priority: bool = True
    queue_priority: bool = True
    queue_concurrency: bool = True
    cancel_running: bool = True


class Backend(Protocol):
    """Says where executions run. A backend of worker processes is a `BrokerBackend` besides.

    Attributes:
        inline: a start runs the execution to its end, in the caller's thread and transaction.
        own_thread: this process's runtime lives in a loop thread of its own, also under a server.
    """

    inline: bool
    own_thread: bool
    capabilities: Capabilities


_ATTRIBUTES: Final = ("inline", "own_thread", "capabilities")
_REMEDY: Final = (
    "Inherit from BrokerBackend (rail_async_tasks.backends.broker) if workers run the tasks, else"
    " from AsyncioBackend (rail_async_tasks.backends.in_process). The methods asubmit, submit,"
    " arrived and cancel are no longer called; remove them."
)


def port_problem(backend: object) -> tuple[str, str] | None:
    """Returns what a backend, or its class, lacks of the port, and the remedy; None if nothing."""
    missing = [name for name in _ATTRIBUTES if not hasattr(backend, name)]
    if not missing:
        return None
    needed = ", ".join(_ATTRIBUTES)
    return f"lacks {', '.join(missing)}: a backend has the attributes {needed}.", _REMEDY
