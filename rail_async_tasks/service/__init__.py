"""The service that every edge calls: enqueue, get, list, cancel, retry, watch.

It checks access, then acts. The async functions are for code on an event loop; their twins without
the `a` are for threads. All raise subclasses of `TaskError`.
"""

from __future__ import annotations

from rail_async_tasks.service.bulk import aenqueue_many, enqueue_many
from rail_async_tasks.service.change import Permit, acancel, aretry, cancel, retry
from rail_async_tasks.service.enqueuing import aenqueue, enqueue
from rail_async_tasks.service.read import MAX_PAGE, aget, alist, get, list_
from rail_async_tasks.service.request import AS_DECLARED, EnqueueOptions
from rail_async_tasks.service.sizes import answer_too_large, size_of
from rail_async_tasks.service.tracebacks import Tracebacks
from rail_async_tasks.service.watching import watch, watch_mine

__all__ = [
    "AS_DECLARED",
    "MAX_PAGE",
    "EnqueueOptions",
    "Permit",
    "Tracebacks",
    "acancel",
    "aenqueue",
    "aenqueue_many",
    "aget",
    "alist",
    "answer_too_large",
    "aretry",
    "cancel",
    "enqueue",
    "enqueue_many",
    "get",
    "list_",
    "retry",
    "size_of",
    "watch",
    "watch_mine",
]
