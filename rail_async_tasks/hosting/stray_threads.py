"""Threads that a body may have started, of which no context says so."""

from __future__ import annotations

import asyncio
import inspect
import threading
from typing import Final

from asgiref.sync import SyncToAsync
from django.core.handlers.base import BaseHandler

from rail_async_tasks.hosting import process
from rail_async_tasks.runtime.attempts.waits import Stray

# A thread with one of these among its calls answers a request, or works for who awaits
# `sync_to_async`: that copies the context, in which a body would be known.
_NOT_STRAY: Final = {BaseHandler.get_response.__code__, SyncToAsync.thread_handler.__code__}


def stray_thread() -> Stray | None:
    """Returns the current thread if a body may have started it; None if that can't be.

    A request or a script that waits while all slots are held just waits: the bodies go on, and end.
    A body that waits for its own thread does not. Python does not record what has started a thread,
    so every thread counts, except:

    - the main thread, of a script, a shell or a server;
    - a thread that answers a request: Django's handler is among its calls, or its context has the
      thread for the ORM calls of the request (ASGI);
    - calls by `sync_to_async` and `async_to_sync`, and the runtime's own loop: the caller's context
      is there, and names its body.
    """
    runtime = process.current()
    if runtime is None:
        return None
    loop, thread = asyncio._get_running_loop(), threading.current_thread()
    if loop is runtime.loop or thread is threading.main_thread():
        return None
    if SyncToAsync.thread_sensitive_context.get(None) is not None:
        return None
    if process.is_short_lived(loop) if loop is not None else _is_for_a_caller():
        return None
    return Stray(runtime.services.waiters, thread.name)


def _is_for_a_caller() -> bool:
    frame = inspect.currentframe()
    while frame is not None:
        if frame.f_code in _NOT_STRAY:
            return True
        frame = frame.f_back
    return False
