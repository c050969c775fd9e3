"""Findings about the bus and the broker: whether they answer, and pass something on."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Final

from rail_async_tasks.backends import find_broker
from rail_async_tasks.backends.broker import BrokerBackend
from rail_async_tasks.bus.redis_connection import Connector
from rail_async_tasks.cli.doctor.setups import Finding, found
from rail_async_tasks.conf import TaskSettings
from rail_async_tasks.errors import ConfigurationError
from rail_async_tasks.runtime.claims.broker import Inventory
from rail_async_tasks.text import sentence

# For the answers of a server, in seconds.
TIMEOUT: Final = 5.0
# The topic of a message that no process listens to.
TOPIC: Final = "doctor"


def bus(settings: TaskSettings) -> Iterator[Finding]:
    """Yields whether Redis takes messages, where it is the bus."""
    if settings.bus != "redis" or settings.redis_url is None:
        return
    try:
        connector = Connector(settings.redis_url)
    except ConfigurationError:  # E006 and E015 name it
        return
    finding = asyncio.run(_publish(connector, f"{settings.subscription_channel}:{TOPIC}"))
    if finding is not None:
        yield finding


async def _publish(connector: Connector, channel: str) -> Finding | None:
    connection = None
    try:
        async with asyncio.timeout(TIMEOUT):
            connection = await connector.open()
            await connection.send([("PUBLISH", channel, b"")])
            await connection.receive()
    except Exception as error:  # noqa: BLE001 (whatever the driver raises)
        name = "bus-unreachable" if connection is None else "bus-refuses"
        if isinstance(error, TimeoutError):
            return found("bus-unreachable", f"No answer in {TIMEOUT:g} s.")
        return found(name, sentence(connector.describe(error)))
    finally:
        if connection is not None:
            await connection.close()
    return None


def broker(settings: TaskSettings) -> Iterator[Finding]:
    """Yields whether the broker answers, where the backend has one."""
    try:
        backend = find_broker(settings)
    except ConfigurationError:  # E013 and E015 name it
        return
    if backend is None:
        return
    reason = asyncio.run(_refusal(backend))
    if reason is not None:
        yield found(
            "broker-unreachable", f'The backend "{backend.name}": {sentence(reason)}',
            where=f"It is in {backend.broker_setting}.",
        )  # fmt: skip


async def _refusal(backend: BrokerBackend) -> str | None:
    """Returns why the broker takes nothing; None where it does. Sends nothing."""
    try:
        async with asyncio.timeout(TIMEOUT):
            await backend.push([])
            # A push of nothing need not connect; a question does.
            if isinstance(backend, Inventory):
                await backend.missing([])
    except TimeoutError:
        return f"no answer in {TIMEOUT:g} s"
    except Exception as error:  # noqa: BLE001 (whatever the client raises)
        return f"{type(error).__name__}: {error}"
    finally:
        await backend.aclose()
    return None
