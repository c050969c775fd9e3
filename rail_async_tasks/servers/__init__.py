"""Servers that need more than the ASGI lifespan to host the runtime."""
