"""The same, with packages in the database and a cluster that serves the queue `low` alone."""

from __future__ import annotations

from tests.backends.settings import *  # noqa: F403

# What Django-Q does with these would be the end of each task that takes longer.
Q_CLUSTER = {
    "name": "main", "orm": "default", "workers": 2, "poll": 0.1, "log_level": "WARNING",
    "timeout": 1, "retry": 2, "ALT_CLUSTERS": {"low": {"workers": 1}},
}  # fmt: skip
