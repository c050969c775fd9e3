"""A Celery app as its documentation has one write it, with a no-op of its own."""

from __future__ import annotations

import os

from celery import Celery

from benchmarks import bare_tasks

app = Celery("benchmarks")
app.conf.broker_url = os.environ.get("BENCHMARK_REDIS", "redis://127.0.0.1:6379/0")
app.conf.broker_connection_retry_on_startup = True
app.conf.worker_hijack_root_logger = False


@app.task(name="benchmarks.noop", ignore_result=True)  # type: ignore[untyped-decorator]
def noop() -> None:
    bare_tasks.noop()
