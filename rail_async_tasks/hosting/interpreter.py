"""The end of the interpreter: drains a runtime whose loop is in a thread, or has stopped."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Final

from rail_async_tasks.hosting import process, server
from rail_async_tasks.hosting.exit import reloading, when_process_ends
from rail_async_tasks.safe_logging import get_logger

if TYPE_CHECKING:
    from rail_async_tasks.runtime.runtime import Runtime

logger = get_logger("rail_async_tasks.runtime")

# The time that running tasks get when the development server reloads (seconds): a person waits.
RELOAD_TIMEOUT: Final = 2.0


def drain_at_the_end() -> None:
    """Have this process's runtime drained when the interpreter ends. Called once, at its start."""
    when_process_ends(_end)


def _end() -> None:
    runtime = process.current()
    if runtime is None:
        return
    if not runtime.loop.is_running():
        _drain_stopped_loop(runtime)
        return
    serving = server.serving_loop()
    if serving is not None and serving.is_running():
        stopping = asyncio.run_coroutine_threadsafe(server.shutdown(), serving)
    else:
        stopping = asyncio.run_coroutine_threadsafe(_finish(runtime), runtime.loop)
    try:
        if not reloading():
            stopping.result()
            return
    except KeyboardInterrupt:  # the person at the terminal does not want to wait any longer
        pass
    process.hurry()
    with contextlib.suppress(TimeoutError):
        stopping.result(RELOAD_TIMEOUT)


def _drain_stopped_loop(runtime: Runtime) -> None:
    """Run a loop once more that was stopped and left open, as some servers and scripts do."""
    if runtime.loop is server.serving_loop():
        ending = server.shutdown()
    else:
        runtime.hurry()  # as `asyncio.run` does at the end of a script
        ending = runtime.stop()
    try:
        runtime.loop.run_until_complete(ending)
    except Exception:
        logger.exception("The task runtime did not shut down cleanly.")


async def _finish(runtime: Runtime) -> None:
    """Stop the runtime; first start the bodies of what was enqueued a moment ago."""
    if not reloading():
        await runtime.caught_up()
    await runtime.stop()
