"""Dramatiq's no-op. Imported once the broker is set."""

from __future__ import annotations

import dramatiq

from benchmarks import bare_tasks


@dramatiq.actor
def noop() -> None:
    bare_tasks.noop()
