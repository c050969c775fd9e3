"""The shop's schema, as the GraphQL tests have it, and a user."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from django.contrib.auth.models import User

from tests.auth.jwks_server import JwksServer, running_jwks_server
from tests.support.api import api, configure
from tests.support.places import place

__all__ = ["api", "configure", "place"]


@pytest.fixture
def ada(database: object) -> User:
    return User.objects.create_user("ada")


@pytest.fixture
def provider() -> Iterator[JwksServer]:
    """An identity provider's keys, over HTTP."""
    with running_jwks_server() as server:
        yield server
