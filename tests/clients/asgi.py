"""The application that npm's clients talk to, which waits less long for `connection_init`."""

from __future__ import annotations

from datetime import timedelta

from tests.asgi import application

__all__ = ["application"]

from rail_async_tasks.graphql import consumers

# A slow machine must not come near it with the clients that do initialise.
consumers.INIT_TIMEOUT = timedelta(seconds=15)  # type: ignore[misc]
