"""The acceptance project as its developer runs it for a while: every logger at DEBUG."""

from __future__ import annotations

from tests.projects.acceptance.settings import *  # noqa: F403

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"plain": {"format": "{levelname} {name} {message}", "style": "{"}},
    "handlers": {"errors": {"class": "logging.StreamHandler", "formatter": "plain"}},
    "root": {"level": "DEBUG", "handlers": ["errors"]},
    "loggers": {"django": {"level": "DEBUG", "handlers": [], "propagate": True}},
}
RAIL_DJANGO_GRAPHQL["schema_settings"] |= {  # type: ignore[operator]  # noqa: F405
    "query_extensions": ["tests.projects.acceptance.spills.Query"],
    "mutation_extensions": [
        *RAIL_DJANGO_GRAPHQL["schema_settings"]["mutation_extensions"],  # noqa: F405
        "tests.projects.acceptance.spills.Mutations",
    ],
}
