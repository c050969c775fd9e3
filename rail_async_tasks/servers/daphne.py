"""daphne: the runtime in its reactor's loop, and a command that runs it on uvloop.

daphne has no lifespan, and at its end it cancels all that is open at once. So the runtime starts
when the reactor runs, and a signal to stop reaches the reactor only after the drain.

    rail-tasks-daphne root.asgi:application      # or python -m rail_async_tasks.servers.daphne
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Final

from rail_async_tasks.conf import get_settings
from rail_async_tasks.errors import ConfigurationError
from rail_async_tasks.hosting import process as host
from rail_async_tasks.hosting import server
from rail_async_tasks.hosting.exit import chain_signals, exit_in_time
from rail_async_tasks.safe_logging import get_logger

logger = get_logger("rail_async_tasks.servers")

Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]

# For connections to end, in seconds, after they were asked to close.
LAST_WORDS: Final = 0.5
# The exit code of a server whose application did not start, as uvicorn's.
START_FAILED: Final = 3


def host_in_reactor(application: Application) -> Application:
    """Returns the application; the runtime lives from the reactor's start to its end.

    Nothing happens as long as the reactor does not run.
    """
    from twisted.internet import reactor

    _let_sockets_close_with_any_code()
    served = ReactorHost(application, reactor)
    # Its loop starts a moment after the reactor's start is signalled.
    reactor.callWhenRunning(reactor.callLater, 0, served.start)
    return served


def drain_with_reactor() -> bool:
    """Makes a running reactor drain at its end; returns False if none runs.

    For an application that is not ours, whose open requests are not known.
    """
    from twisted.internet import reactor

    if not reactor.running:
        return False
    _let_sockets_close_with_any_code()
    ReactorHost(None, reactor).hook()
    return True


def _let_sockets_close_with_any_code() -> None:
    """Allows all codes of RFC 6455: daphne would refuse them and leave the socket open."""
    from daphne.ws_protocol import WebSocketProtocol  # type: ignore[import-untyped]

    refusing = WebSocketProtocol.serverClose
    if hasattr(refusing, "rail_async_tasks"):
        return

    def server_close(self: Any, code: int | None = None) -> None:
        if code in self.CLOSE_STATUS_CODES_ALLOWED:
            self.sendCloseFrame(code=code)
        else:
            refusing(self, code)

    server_close.rail_async_tasks = True  # type: ignore[attr-defined]
    WebSocketProtocol.serverClose = server_close


class ReactorHost:
    """The application under daphne, and the runtime beside it.

    Args:
        application: None if daphne serves another one.
    """

    def __init__(self, application: Application | None, reactor: Any) -> None:
        self._application = application
        self._reactor = reactor
        self._open: dict[asyncio.Task[Any], str] = {}  # what each of them serves
        self._starting: asyncio.Task[None] | None = None
        self._stopping: asyncio.Task[None] | None = None
        self._told_to_stop = False
        self._reactor_stops = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        assert self._application is not None
        task = asyncio.current_task()
        assert task is not None
        self._open[task] = scope["type"]
        try:
            await self._application(scope, receive, send)
        finally:
            self._open.pop(task, None)

    # --- its start -------------------------------------------------------------------------------

    def start(self) -> None:
        """Starts the runtime. Called on the reactor's loop."""
        self._starting = asyncio.get_running_loop().create_task(self._start())

    async def _start(self) -> None:
        try:
            await server.startup()
        except Exception:
            logger.exception("The task runtime could not start.")
            asyncio.get_running_loop().call_soon(sys.exit, START_FAILED)
            return
        self.hook()

    def hook(self) -> None:
        """Makes the reactor, and the signals that stop it, wait for the drain."""
        self._reactor.addSystemEventTrigger("before", "shutdown", self._before_shutdown)
        chain_signals(self._signalled)

    # --- its end ---------------------------------------------------------------------------------

    def _signalled(self, again: bool, go_on: Callable[[], object]) -> None:
        """Drains, then lets the reactor stop; a second Ctrl-C stops it without waiting."""
        if not self._told_to_stop:
            self._told_to_stop = True
            exit_in_time()
            self._reactor.callFromThread(self._drain_first, go_on)
        elif again:
            go_on()

    def _drain_first(self, go_on: Callable[[], object]) -> None:
        def stop_reactor(_: object) -> None:
            if not self._reactor_stops:
                go_on()

        self._stop().add_done_callback(stop_reactor)

    def _before_shutdown(self) -> Any:
        """Drains if no signal has; the reactor waits for the returned Deferred."""
        from twisted.internet.defer import Deferred

        self._reactor_stops = True
        stopping = self._stop()
        host.hurry()
        return Deferred.fromFuture(stopping)

    def _stop(self) -> asyncio.Task[None]:
        if self._stopping is None:
            self._stopping = asyncio.get_running_loop().create_task(self._end_all())
        return self._stopping

    async def _end_all(self) -> None:
        try:
            loop = asyncio.get_running_loop()
            deadline = loop.time() + get_settings().drain_seconds
            self._stop_listening()
            await asyncio.gather(server.drain(), self._end_connections(deadline))
            await server.shutdown()
        except Exception:
            logger.exception("The task runtime did not shut down cleanly.")

    def _stop_listening(self) -> None:
        """Closes the listeners: clients that are sent away must not come back here."""
        from twisted.internet.interfaces import IListeningPort

        for reader in self._reactor.getReaders():
            if IListeningPort.providedBy(reader):
                reader.stopListening()

    async def _end_connections(self, deadline: float) -> None:
        """Lets requests end until then, cancels the others, and waits for their end.

        The process may exit while a response is still being sent.
        """
        now = asyncio.get_running_loop().time()
        requests = {task for task, kind in self._open.items() if kind == "http"}
        if requests:
            await asyncio.wait(requests, timeout=max(deadline - now, LAST_WORDS))
        if self._application is None:
            await asyncio.sleep(LAST_WORDS)
        if self._open:
            # Sockets end when their clients confirm that they are closed.
            await asyncio.wait(set(self._open), timeout=LAST_WORDS)
        left = set(self._open)
        for task in left:
            task.cancel()
        if left:
            await asyncio.wait(left, timeout=LAST_WORDS)


def main() -> None:
    """Runs daphne's own command, with all its options, on uvloop."""
    try:
        import uvloop
    except ImportError as error:
        raise ConfigurationError(
            'daphne on uvloop needs uvloop: pip install "rail_async_tasks[daphne]". Without it,'
            " daphne's own command serves the application too."
        ) from error
    # daphne makes its loop when it is imported.
    asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
    from daphne.cli import CommandLineInterface  # type: ignore[import-untyped]

    CommandLineInterface.entrypoint()


if __name__ == "__main__":
    main()
