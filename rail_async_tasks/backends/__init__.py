"""How an execution gets to a process that runs it: the port, and its implementations."""

from __future__ import annotations

from functools import cache
from importlib import import_module

from rail_async_tasks.backends.port import Backend
from rail_async_tasks.conf import TaskSettings, import_from_setting
from rail_async_tasks.errors import BackendUnavailable

_PLACES = {
    "asyncio": ("rail_async_tasks.backends.in_process", "AsyncioBackend"),
    "thread": ("rail_async_tasks.backends.in_process", "ThreadBackend"),
    "sync": ("rail_async_tasks.backends.sync", "SyncBackend"),
}


def get_backend(settings: TaskSettings) -> Backend:
    """The backend that the `backend` setting names: one of ours, or a dotted path to a class.

    Raises:
        BackendUnavailable: this release has no such backend.
        ConfigurationError: the path can't be imported.
    """
    return _backend(settings.backend)


@cache
def _backend(name: str) -> Backend:
    if name in _PLACES:
        module, attribute = _PLACES[name]
        return getattr(import_module(module), attribute)()  # type: ignore[no-any-return]
    if "." in name:
        return import_from_setting(name, "backend")()  # type: ignore[no-any-return]
    raise BackendUnavailable(f"The backend {name!r} is not part of this release.")
