"""Forks servers: a process that has imported what they need, which takes most of a server's start.

    python -m tests.support.forker

Standard input is a socket. Each message on it is a `Start` as JSON, with two descriptors: one end
of a lifeline, at whose end the server is asked to end, as `devservers.keeper` does it, and a pipe,
into which the server's process id is written, and its exit code once it has ended.

It imports neither Django's settings nor models, nor anything of a project or the tests. A server
imports these itself, in its own environment. It ends by itself, as any process of Python.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import runpy
import selectors
import signal
import socket
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from devservers.keeper import signal_at_parent_death
from tests.no_gdal import spare_the_search

# What a server imports, as far as it can be imported before there are settings.
IMPORTS = (
    "uvicorn.main",
    "uvicorn.lifespan.on",
    "uvicorn.loops.asyncio",
    "uvicorn.loops.uvloop",
    "uvicorn.protocols.http.auto",
    "uvicorn.protocols.websockets.auto",
    "anyio._backends._asyncio",
    "arq",
    "channels.generic.websocket",
    "cryptography.fernet",
    "django.contrib.admin.sites",
    "django.contrib.auth.hashers",
    "django.contrib.messages.middleware",
    "django.contrib.sessions.middleware",
    "django.contrib.staticfiles.checks",
    "django.contrib.staticfiles.handlers",
    "django.core.asgi",
    "django.core.management",
    "django.db.backends.sqlite3.base",
    "django.db.migrations.migration",
    "django.middleware.common",
    "django.middleware.security",
    "jwt",
    "msgspec.inspect",
    "msgspec.json",
    "psycopg",
    "redis.asyncio",
    "strawberry.channels",
    "strawberry.django.views",
    # Of this project, what reads neither settings nor models: these import nearly all of that.
    "rail_async_tasks.asgi",
    "rail_async_tasks.dashboard.query",
    "rail_async_tasks.graphql.consumers",
)


@dataclass(frozen=True)
class Start:
    """What is run: a module and its arguments, where, and with which whole environment.

    `output` and `errors` are the files that take what it prints. `path` comes first on `sys.path`.
    """

    arguments: list[str]
    env: dict[str, str]
    path: list[str]
    cwd: str
    output: str
    errors: str
    stop_seconds: float


@dataclass
class _Child:
    pid: int
    ended: int  # its pidfd, readable once it has ended
    lifeline: int
    report: int
    stop_seconds: float
    kill_at: float | None = None


def main() -> None:
    """Fork until the socket's other end is closed and every server has ended."""
    spare_the_search()
    for name in IMPORTS:
        importlib.import_module(name)
    # No child walks through them again, or copies their pages by doing so.
    gc.collect()
    gc.freeze()
    start = _serve(socket.socket(fileno=os.dup(0)))
    if start is not None:
        _become(start)


def _serve(control: socket.socket) -> Start | None:
    """Return what to run, in each child; in the forker itself None, at its end."""
    children: dict[int, _Child] = {}
    with selectors.DefaultSelector() as selector, control:
        selector.register(control, selectors.EVENT_READ)
        while selector.get_map():
            for key, _ in selector.select(_until_the_next_kill(children)):
                if key.fileobj is control:
                    message, fds, _, _ = socket.recv_fds(control, 1 << 20, 2)
                    if not message:
                        selector.unregister(control)
                        continue
                    start = Start(**json.loads(message))
                    pid = os.fork()
                    if pid == 0:
                        _close_all(children, fds)
                        return start
                    child = _Child(pid, os.pidfd_open(pid), *fds, start.stop_seconds)
                    _take(selector, children, child)
                elif key.data is not None:
                    _asked_to_end_or_ended(selector, children, key.data, int(key.fd))
            _kill_the_late(children)
    return None


def _take(selector: selectors.BaseSelector, children: dict[int, _Child], child: _Child) -> None:
    children[child.pid] = child
    os.write(child.report, b"%d\n" % child.pid)
    selector.register(child.ended, selectors.EVENT_READ, child)
    selector.register(child.lifeline, selectors.EVENT_READ, child)


def _asked_to_end_or_ended(
    selector: selectors.BaseSelector, children: dict[int, _Child], child: _Child, fd: int
) -> None:
    if child.pid not in children:
        return
    if fd == child.lifeline:
        selector.unregister(child.lifeline)
        child.kill_at = time.monotonic() + child.stop_seconds
        os.kill(child.pid, signal.SIGTERM)
        return
    _, status = os.waitpid(child.pid, 0)
    for watched in (child.ended, child.lifeline):
        with suppress(KeyError):
            selector.unregister(watched)
    with suppress(BrokenPipeError):
        os.write(child.report, b"%d\n" % os.waitstatus_to_exitcode(status))
    for opened in (child.ended, child.lifeline, child.report):
        os.close(opened)
    del children[child.pid]


def _until_the_next_kill(children: dict[int, _Child]) -> float | None:
    times = [it.kill_at for it in children.values() if it.kill_at is not None]
    return max(0.0, min(times) - time.monotonic()) if times else None


def _kill_the_late(children: dict[int, _Child]) -> None:
    for child in children.values():
        if child.kill_at is not None and time.monotonic() >= child.kill_at:
            child.kill_at = None
            os.kill(child.pid, signal.SIGKILL)


def _close_all(children: dict[int, _Child], fds: list[int]) -> None:
    """Close what a child inherits and must not hold: the forker's, and those of other servers."""
    for fd in (*fds, *(it for child in children.values() for it in _descriptors(child))):
        os.close(fd)
    children.clear()


def _descriptors(child: _Child) -> tuple[int, ...]:
    return child.ended, child.lifeline, child.report


def _become(start: Start) -> None:
    """Be the process that `python -m …` would have started."""
    os.setsid()  # Ctrl-C in the terminal is for the tests alone
    die_with_the_forker: Any = signal_at_parent_death(signal.SIGTERM)
    if die_with_the_forker is not None:
        die_with_the_forker()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job ignores it
    os.environ.clear()
    os.environ.update(start.env)
    os.chdir(start.cwd)
    append = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    files = ((os.devnull, os.O_RDONLY), (start.output, append), (start.errors, append))
    for number, (name, flags) in enumerate(files):
        opened = os.open(name, flags, 0o644)
        os.dup2(opened, number)
        os.close(opened)
    # In place of the folder in which the forker was started.
    sys.path[:1] = [start.cwd, *start.path]
    sys.path_importer_cache.clear()
    module, *sys.argv[1:] = start.arguments
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
