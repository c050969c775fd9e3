"""`python -m devservers.demo`: the example project on a free port, with sample tasks running.

In the environment: `DEMO_PORT` (by default 8000, or any free port if that is taken), `DEMO_DIR`
(where the database and the tasks' files go), `DEMO_DATABASE_URL` (`postgres://…`, by default SQLite
in `DEMO_DIR`), `DEMO_SAMPLES=0` (start no sample tasks).
"""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from collections.abc import Callable
from contextlib import suppress

import django
import uvicorn
from django.core.management import call_command

from devservers.process import HOST

PREFERRED_PORT = 8000


def main() -> None:
    """Prepare the database, then serve until SIGINT or SIGTERM."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "example_project.root.settings")
    django.setup()
    call_command("set_up_shop")
    listener = listen(os.environ.get("DEMO_PORT"))
    with suppress(KeyboardInterrupt), asyncio.Runner(loop_factory=loop_factory()) as runner:
        runner.run(serve(listener))


def listen(port: str | None) -> socket.socket:
    """Return a socket on this port; without one on the preferred port, or on any free one."""
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    if sys.platform != "win32":  # there it would let two servers share a port
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((HOST, int(port or PREFERRED_PORT)))
    except OSError as error:
        if port is not None:
            raise SystemExit(f"Port {port} cannot be used: {error.strerror}.") from error
        listener.bind((HOST, 0))
    return listener


def loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """Return uvloop's where it is installed, else none for Python's own loop."""
    try:
        import uvloop
    except ImportError:  # not to be had on Windows
        return None
    return uvloop.new_event_loop


async def serve(listener: socket.socket) -> None:
    """Run the server; once it is up, print its address and start the sample tasks."""
    config = uvicorn.Config(
        "example_project.root.asgi:application", lifespan="on", log_level="warning"
    )
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    while not server.started:
        await asyncio.wait({serving}, timeout=0.02)
        if serving.done():
            return serving.result()
    announce(listener.getsockname()[1])
    samples = asyncio.create_task(start_samples())
    try:
        await serving
    finally:
        samples.cancel()


def announce(port: int) -> None:
    url = f"http://{HOST}:{port}"
    print(
        f"\n  The example shop is up. Ctrl-C stops it.\n\n"
        f"    The page         {url}/\n"
        f"    Dashboard        {url}/tasks/    (user admin, password admin)\n"
        f"    GraphQL console  {url}/graphql/\n"
        f"    Admin            {url}/admin/    (user admin, password admin)\n",
        flush=True,
    )


async def start_samples() -> None:
    """Start imports as the user `demo`, then tasks that work on the imported rows."""
    if os.environ.get("DEMO_SAMPLES") == "0":
        return
    from django.contrib.auth import get_user_model

    from example_project.shop import tasks

    demo = await get_user_model().objects.aget(username="demo")
    imports = [
        await tasks.import_airports.using(owner=demo).aenqueue(),
        await tasks.import_cars.using(owner=demo).aenqueue(),
    ]
    for handle in imports:
        await handle.aresult(timeout=60)
    await tasks.slow_export.using(owner=demo).aenqueue()
    await tasks.reprice_cars.using(owner=demo).aenqueue()
    await tasks.draw_chart.using(owner=demo).aenqueue(chart=tasks.Chart.AIRPORT_MAP)


if __name__ == "__main__":
    main()
