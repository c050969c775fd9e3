"""Settings in which everything of ours is wrong."""

from __future__ import annotations

from tests.settings import *  # noqa: F403

RAIL_DJANGO_GRAPHQL = {
    "task_settings": {"backend": 3, "max_retries": "many", "no_such_key": True},
    "schema_settings": {
        "query_extensions": 7,
        "mutation_extensions": ["nowhere.Type", None],
        "subscription_extensions": ["tests.projects.shop.Missing"],
    },
}
