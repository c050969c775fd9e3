"""The backend port: where the executions of a project run, and what can be promised of that."""

from __future__ import annotations

from typing import Protocol

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
