"""The `arq` backend, in the processes that send. Its workers are started by `task_worker`."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Iterable, Sequence
from itertools import groupby
from operator import attrgetter
from types import ModuleType
from typing import Any, ClassVar, Final

from rail_async_tasks.backends.arq.errors import brief, is_refusal
from rail_async_tasks.backends.arq.keys import (
    ahead,
    encoded,
    job_id,
    job_id_before,
    queue_key,
    wake_key,
)
from rail_async_tasks.backends.arq.scripts import ENQUEUE, PRESENT
from rail_async_tasks.backends.broker import BrokerBackend
from rail_async_tasks.backends.port import Capabilities
from rail_async_tasks.conf import get_settings
from rail_async_tasks.errors import ConfigurationError
from rail_async_tasks.ledger.dispatch_records import Dispatch
from rail_async_tasks.registry import registry

# How long a job is kept that no worker takes, in milliseconds: a day, as arq has it.
EXPIRY: Final = 86_400_000

# Clients of the parent process that a forked child has copies of. The child must not finalize
# them: asyncio would take the parent's sockets out of the parent's selector.
_of_the_parent: list[Any] = []


class ArqBackend(BrokerBackend):
    """Sends the ids of each queue in one call. One connection, on the runtime's loop."""

    name: ClassVar[str] = "arq"
    broker_setting: ClassVar[str] = 'task_settings["redis_url"]'
    worker_command: ClassVar[str] = "manage.py task_worker"
    capabilities = Capabilities()  # all of them

    def __init__(self) -> None:
        """
        Raises:
            ConfigurationError: arq is not installed.
        """
        self._library = library()
        self._client: Any = None
        self._home: tuple[int, asyncio.AbstractEventLoop] | None = None

    async def push(self, dispatches: Sequence[Dispatch]) -> None:
        client = await self._connected()
        now = time.time_ns() // 1_000_000
        by_queue = attrgetter("queue")
        async with client.pipeline(transaction=False) as pipe:
            for queue, batch in groupby(sorted(dispatches, key=by_queue), by_queue):
                jobs = [word for dispatch in batch for word in _words(dispatch, now)]
                pipe.eval(ENQUEUE, 2, queue_key(queue), wake_key(queue), EXPIRY, *jobs)
            try:
                await pipe.execute()
            except Exception as error:
                if not is_refusal(error):
                    raise
                raise ConnectionRefusedError(brief(error)) from error

    async def missing(self, dispatches: Sequence[Dispatch]) -> Sequence[Dispatch]:
        """Returns the dispatches that Redis has neither in a queue nor at a worker."""
        client = await self._connected()
        queues = list({dispatch.queue: None for dispatch in dispatches})
        numbers = {queue: number for number, queue in enumerate(queues, 1)}
        words = [word for it in dispatches for word in (numbers[it.queue], job_id(it))]
        present = await client.eval(PRESENT, len(queues), *map(queue_key, queues), *words)
        return [it for it, there in zip(dispatches, present, strict=True) if not there]

    async def aclose(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            await client.aclose()

    async def _connected(self) -> Any:
        home = (os.getpid(), asyncio.get_running_loop())
        if self._client is None or self._home != home:
            if self._client is not None and self._home is not None and self._home[0] != home[0]:
                _of_the_parent.append(self._client)
            self._client, self._home = self._library.connect(url()), home
        return self._client


def library() -> ModuleType:
    """Returns `library.py`, which imports arq.

    Raises:
        ConfigurationError: arq is not installed.
    """
    try:
        from rail_async_tasks.backends.arq import library
    except ImportError as error:
        raise ConfigurationError(
            'The backend "arq" needs the packages arq and redis:'
            ' pip install "rail_async_tasks[arq]".'
        ) from error
    return library


def url() -> str:
    """Returns the URL of Redis, which may hold a password.

    Raises:
        ConfigurationError: the settings name none.
    """
    found = get_settings().redis_url
    if found is None:
        raise ConfigurationError('The backend "arq" needs task_settings["redis_url"].')
    return found


def _words(dispatch: Dispatch, now: int) -> Iterable[str | int | bytes]:
    """Returns the script's four arguments for one job."""
    definition = registry.get(dispatch.name)
    in_thread = definition is not None and not definition.is_coroutine
    return (
        job_id(dispatch),
        job_id_before(dispatch),
        ahead(dispatch.priority),
        encoded(dispatch, in_thread=in_thread, now=now),
    )
