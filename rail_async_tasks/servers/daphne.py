"""daphne: the runtime in its reactor's loop, and a command that runs it on uvloop.

daphne has no lifespan, and at its end it cancels all that is open at once. So the runtime starts
when the reactor runs, and a signal to stop reaches the reactor only after the drain.

    rail-tasks-daphne root.asgi:application      # or python -m rail_async_tasks.servers.daphne
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable
from typing import Any, Final

from rail_async_tasks.conf import get_settings
from rail_async_tasks.errors import ConfigurationError
from rail_async_tasks.hosting import process as host
from rail_async_tasks.hosting import server
from rail_async_tasks.hosting.exit import chain_signals, exit_in_time
from rail_async_tasks.safe_logging import get_logger
from rail_async_tasks.servers.lifespan import Host, LifespanClient, LifespanFailed
from rail_async_tasks.servers.protocol import Application, Receive, Scope, Send

logger = get_logger("rail_async_tasks.servers")

# Speaks lifespan, with a host of the runtime that the caller gives.
Live = Callable[[Scope, Receive, Send, Host], Awaitable[None]]

# For connections to end, in seconds, after they were asked to close.
LAST_WORDS: Final = 0.5
# The exit code of a server whose application did not start, as uvicorn's.
START_FAILED: Final = 3


_host: ReactorHost | None = None


def host_in_reactor(application: Application, live: Live) -> Application:
    """Returns the application; the runtime lives from the reactor's start to its end.

    Nothing happens as long as the reactor does not run. Of applications within each other, the last
    is the outermost: its lifespan is the one that runs.
    """
    global _host
    from twisted.internet import reactor

    if _host is None:
        _let_sockets_close_with_any_code()
        _host = ReactorHost(reactor)
        # Its loop starts a moment after the reactor's start is signalled.
        reactor.callWhenRunning(reactor.callLater, 0, _host.start)
    _host.live = live
    return _Served(_host, application)


def drain_with_reactor() -> bool:
    """Makes a running reactor drain at its end; returns False if none runs.

    For an application that is not ours, whose open requests are not known.
    """
    from twisted.internet import reactor

    if not reactor.running:
        return False
    _let_sockets_close_with_any_code()
    ReactorHost(reactor, serves=False).hook()
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


class _Served:
    """An application that daphne serves, beside the runtime."""

    hosts_tasks = True

    def __init__(self, host: ReactorHost, application: Application) -> None:
        self._host = host
        self._application = application

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":  # from a server that is not daphne, or from a check
            await self._application(scope, receive, send)
        else:
            await self._host.serve(self._application, scope, receive, send)


class ReactorHost:
    """The runtime in daphne's reactor, and the lifespan of the application that daphne serves.

    Args:
        serves: False if daphne serves an application that is not ours.
    """

    live: Live

    def __init__(self, reactor: Any, *, serves: bool = True) -> None:
        self._reactor = reactor
        self._serves = serves
        self._open: dict[asyncio.Task[Any], str] = {}  # what each of them serves
        self._starting: asyncio.Task[None] | None = None
        self._lifespan: LifespanClient | None = None
        self._stopping: asyncio.Task[None] | None = None
        self._told_to_stop = False
        self._reactor_stops = False

    async def serve(
        self, application: Application, scope: Scope, receive: Receive, send: Send
    ) -> None:
        """Serves one request or WebSocket, once the application has started."""
        task = asyncio.current_task()
        assert task is not None
        if task in self._open:  # by an application further out
            await application(scope, receive, send)
            return
        self._open[task] = scope["type"]
        try:
            if self._starting is not None and not self._starting.done():
                await asyncio.shield(self._starting)
            if self._lifespan is not None and self._lifespan.state:
                scope = {**scope, "state": self._lifespan.state.copy()}
            await application(scope, receive, send)
        finally:
            self._open.pop(task, None)

    # --- its start -------------------------------------------------------------------------------

    def start(self) -> None:
        """Starts the runtime. Called on the reactor's loop."""
        self._starting = asyncio.get_running_loop().create_task(self._start())

    async def _start(self) -> None:
        self._lifespan = LifespanClient(self._live)
        try:
            await self._lifespan.startup()
        except LifespanFailed as error:
            logger.error("The application could not start: %s", error)  # noqa: TRY400 - no traceback
            asyncio.get_running_loop().call_soon(sys.exit, START_FAILED)

    async def _live(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.live(scope, receive, send, _ReactorRuntime(self))

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
            if self._lifespan is None:
                await server.shutdown()
            else:
                await self._lifespan.shutdown()
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
        if not self._serves:
            await asyncio.sleep(LAST_WORDS)
        if self._open:
            # Sockets end when their clients confirm that they are closed.
            await asyncio.wait(set(self._open), timeout=LAST_WORDS)
        left = set(self._open)
        for task in left:
            task.cancel()
        if left:
            await asyncio.wait(left, timeout=LAST_WORDS)


class _ReactorRuntime:
    """Starts and ends the runtime; see `lifespan.Host`."""

    def __init__(self, host: ReactorHost) -> None:
        self._host = host

    async def start(self) -> None:
        await server.startup()
        self._host.hook()

    async def end(self) -> None:
        await server.shutdown()


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
