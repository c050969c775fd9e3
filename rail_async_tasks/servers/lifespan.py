"""ASGI's lifespan: the runtime starts after the application inside, and ends before it.

Tasks use what the application's own lifespan opens (clients, pools), so that is there while they
run. An application without a lifespan raises or returns at once: then the runtime has it alone.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final, Protocol

from rail_async_tasks.hosting import process, server
from rail_async_tasks.safe_logging import get_logger
from rail_async_tasks.servers import watch
from rail_async_tasks.servers.protocol import Application, Message, Receive, Scope, Send

logger = get_logger("rail_async_tasks.asgi")

# Keys of a lifespan scope. Under PROBE stands a list: our lifespan adds itself, and starts nothing.
PROBE: Final = "rail_async_tasks.probe"
# An application further out has the runtime: this one only answers the server.
HOSTED: Final = "rail_async_tasks.hosted"


class Host(Protocol):
    """Starts and ends the runtime. Both may raise."""

    async def start(self) -> None: ...
    async def end(self) -> None: ...


class ServerHost:
    """Under a server that speaks lifespan."""

    async def start(self) -> None:
        await server.startup()
        watch()
        server.drain_on_signal()

    async def end(self) -> None:
        await server.shutdown()


class _NoHost:
    """Inside an application that has the runtime."""

    async def start(self) -> None: ...
    async def end(self) -> None: ...


async def run(
    inner: Application | None, scope: Scope, receive: Receive, send: Send, host: Host
) -> None:
    """Speaks lifespan with the server, for the runtime and for the application inside.

    Args:
        inner: an application whose own lifespan runs too, if it has one.
    """
    if (probe := scope.get(PROBE)) is not None:
        probe.append(run)
        return
    between = _Between(receive, send, _NoHost() if scope.get(HOSTED) else host)
    if inner is not None:
        await _run_inner(inner, scope, between)
    await between.finish()


async def _run_inner(inner: Application, scope: Scope, between: _Between) -> None:
    try:
        await inner({**scope, HOSTED: True}, between.receive, between.send)
    except Exception as error:
        if between.answer is None:
            logger.debug("The application inside has no lifespan: %r", error)
        elif between.done or between.answer != "lifespan.startup.complete":
            raise  # it has told the server why
        else:
            logger.exception("The lifespan of the application inside broke.")
            between.broken = between.broken or _reason(error)


class _Between:
    """Passes messages from the server to the application and back; starts and ends the runtime."""

    def __init__(self, receive: Receive, send: Send, host: Host) -> None:
        self._receive = receive
        self._send = send
        self._host = host
        self._asked = False  # the server has asked for the start
        self._shutting_down = False
        self._refused: str | None = None  # why the runtime did not start
        self._unclean: str | None = None  # why the runtime did not end well
        self.answer: str | None = None  # the application's answer to the start
        self.broken: str | None = None  # an error of the application, after its start
        self.done = False  # the server has its last answer

    async def receive(self) -> Message:
        """The next message for the application."""
        if self._refused is not None:  # what it has opened for its start it closes again
            return {"type": "lifespan.shutdown"}
        message = await self._receive()
        if message["type"] == "lifespan.startup":
            self._asked = True
        elif message["type"] == "lifespan.shutdown":
            await self._end()
        return message

    async def send(self, message: Message) -> None:
        """An answer of the application's."""
        kind = message["type"]
        if self.answer is None:
            self.answer = kind
            if kind == "lifespan.startup.complete":
                await self._start()
                if self._refused is not None:
                    return  # `finish` answers the server, once the application has closed
            else:
                self.done = True
            await self._send(message)
        elif self._refused is None:
            await self._answer_shutdown(message)

    async def finish(self) -> None:
        """Goes on without the application: it has no lifespan, or it has left."""
        if self.done:
            return
        if self.answer is None:
            if not self._asked:
                await self._receive()
            await self._start()
            if self._refused is None:
                await self._send({"type": "lifespan.startup.complete"})
        if self._refused is not None:
            await self._send({"type": "lifespan.startup.failed", "message": self._refused})
            return
        if not self._shutting_down:
            await self._receive()
            await self._end()
        await self._answer_shutdown({"type": "lifespan.shutdown.complete"})

    async def _start(self) -> None:
        try:
            await self._host.start()
        except Exception as error:
            logger.exception("The task runtime could not start.")
            self._refused = _reason(error)

    async def _end(self) -> None:
        self._shutting_down = True
        try:
            await self._host.end()
        except Exception as error:
            logger.exception("The task runtime did not shut down cleanly.")
            self._unclean = _reason(error)

    async def _answer_shutdown(self, message: Message) -> None:
        self.done = True
        if process.current() is not None:  # the application's own end has enqueued something
            await self._end()
        reasons = [it for it in (self._unclean, self.broken, message.get("message")) if it]
        if reasons:
            message = {"type": "lifespan.shutdown.failed", "message": "\n".join(reasons)}
        await self._send(message)


def _reason(error: Exception) -> str:
    return f"rail_async_tasks: {error}" if str(error) else f"rail_async_tasks: {error!r}"


class LifespanFailed(Exception):
    """The application refused to start, or did not shut down cleanly. Its text is the reason."""


class LifespanClient:
    """Speaks lifespan to an application, in place of a server that does not.

    `state` is what the application keeps for its requests. To be used on one loop.
    """

    def __init__(self, application: Application) -> None:
        self._application = application
        self._messages: asyncio.Queue[Message] = asyncio.Queue()
        self._answers: asyncio.Queue[Message] = asyncio.Queue()
        self._task: asyncio.Task[None] | None = None
        self.state: dict[str, Any] = {}

    async def startup(self) -> None:
        """Returns when the application has started. Raises `LifespanFailed`."""
        self._task = asyncio.get_running_loop().create_task(self._run())
        await self._ask("lifespan.startup")

    async def shutdown(self) -> None:
        """Returns when the application has shut down. Raises `LifespanFailed`."""
        await self._ask("lifespan.shutdown")

    async def _ask(self, kind: str) -> None:
        self._messages.put_nowait({"type": kind})
        answer = await self._answers.get()
        if answer["type"] != f"{kind}.complete":
            raise LifespanFailed(answer.get("message", "The application did not say why."))

    async def _run(self) -> None:
        scope = {
            "type": "lifespan",
            "asgi": {"version": "3.0", "spec_version": "2.0"},
            "state": self.state,
        }
        try:
            await self._application(scope, self._messages.get, self._answers.put)
        except Exception as error:
            logger.exception("The lifespan of the application broke.")
            self._answers.put_nowait({"type": "broken", "message": repr(error)})
