"""The suite for authors of backends, under its earlier name: see `testing.backends.contracts`."""

from __future__ import annotations

from rail_async_tasks.testing.backends.contracts import BackendContract

__all__ = ["BackendContract"]
