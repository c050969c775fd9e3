"""A process that runs tasks until it is ended, as a second web process does."""

from __future__ import annotations

import asyncio

import django
import uvloop


async def main() -> None:
    from rail_async_tasks.workers.own import worker_process

    async with worker_process() as stopped:
        await stopped.wait()


if __name__ == "__main__":
    django.setup()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())
