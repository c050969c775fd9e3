"""The servers that a project may run on: how each is started, and what it can do."""

from __future__ import annotations

import signal
import sys
from dataclasses import dataclass, field
from typing import Any, Final

ASGI: Final = "tests.asgi:application"
WSGI: Final = "tests.wsgi:application"

# uvicorn ends what it has to end, then raises the signal that it was sent once more.
SIGNALLED: Final = -signal.SIGTERM


@dataclass(frozen=True)
class Kind:
    """One of them. `command` is Python's arguments; `{port}` stands for the port."""

    name: str
    command: tuple[str, ...]
    streams: bool = True  # WebSocket and SSE
    starts_with_server: bool = True  # the runtime, else with the first request
    reloads: bool = False  # it restarts when a file changes, and has no drain
    runtimes: int = 1
    loop: str = "asyncio"
    exit_codes: tuple[int, ...] = (0,)
    env: dict[str, str] = field(default_factory=dict)

    def argv(self, port: int) -> list[str]:
        return [sys.executable, *(word.format(port=port) for word in self.command)]


def uvicorn(name: str, loop: str, application: str = ASGI) -> Kind:
    options = ("--port={port}", f"--loop={loop}", "--no-access-log")
    command = ("-m", "uvicorn", application, *options)
    return Kind(name, command, loop=loop, exit_codes=(0, SIGNALLED))


def _gunicorn(name: str, *options: str, **can: Any) -> Kind:
    common = ("-m", "gunicorn", "--bind=127.0.0.1:{port}", "--no-control-socket")
    return Kind(name, (*common, *options), **can)


_WORKERS = ("--workers=2", "--worker-class=uvicorn_worker.UvicornWorker")
_OWN_WORKERS = ("--workers=2", "--worker-class=asgi")
_HYPERCORN = ("-m", "hypercorn", "--bind=127.0.0.1:{port}")
_TWO_ON_UVLOOP = ("--workers=2", "--worker-class=uvloop")
_GRANIAN = ("-m", "granian", "--port={port}", "--interface=asgi")
_DAPHNE = ("--port", "{port}", ASGI)
_RUNSERVER = ("-m", "django", "runserver", "127.0.0.1:{port}")

KINDS: Final = {
    kind.name: kind
    for kind in (
        uvicorn("uvicorn", "asyncio"),
        uvicorn("uvicorn-uvloop", "uvloop"),
        Kind("daphne", ("-m", "daphne", *_DAPHNE)),
        Kind("daphne-uvloop", ("-m", "rail_async_tasks.servers.daphne", *_DAPHNE), loop="uvloop"),
        _gunicorn("gunicorn-uvicorn", *_WORKERS, ASGI, runtimes=2, loop="uvloop"),
        _gunicorn("gunicorn-preload", "--preload", *_WORKERS, ASGI, runtimes=2, loop="uvloop"),
        _gunicorn("gunicorn-asgi", *_OWN_WORKERS, ASGI, runtimes=2, loop="uvloop"),
        Kind("hypercorn", (*_HYPERCORN, ASGI)),
        Kind("hypercorn-uvloop", (*_HYPERCORN, *_TWO_ON_UVLOOP, ASGI), runtimes=2, loop="uvloop"),
        Kind("granian", (*_GRANIAN, ASGI), loop="uvloop"),
        Kind("runserver-daphne", _RUNSERVER, reloads=True, env={"ACCEPTANCE_APPS": "daphne"}),
        Kind("runserver", _RUNSERVER, streams=False, starts_with_server=False, reloads=True),
        _gunicorn("gunicorn-wsgi", "--workers=1", WSGI, streams=False, starts_with_server=False),
    )
}
