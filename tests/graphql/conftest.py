"""The shop's schema, and a client of it."""

from __future__ import annotations

from tests.support.api import api, configure

__all__ = ["api", "configure"]
