"""What a caller was let in by, read again after `authenticate()` has accepted it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from django.contrib.auth import SESSION_KEY, get_user_model

from rail_async_tasks.access import user_id_of
from rail_async_tasks.auth.bearer import bearer_of, scope_of
from rail_async_tasks.conf import get_settings


class Credential(NamedTuple):
    """An accepted credential.

    Attributes:
        is_stored: the user is a row of the user model, and not of an `authenticator`'s own kind.
        session_key: None for other credentials than Django's session.
        expires_at: when a token ends, leeway included, in seconds since 1970.
    """

    is_stored: bool
    session_key: str | None = None
    expires_at: float | None = None


def credential_of(
    user: Any, request: Any, connection_params: Mapping[str, Any] | None = None
) -> Credential | None:
    """Returns the credential of a user; None for an anonymous one."""
    if user_id_of(user) is None:
        return None
    is_stored = isinstance(user, get_user_model())
    settings = get_settings()
    if settings.authenticator is not None:
        return Credential(is_stored)
    bearer = bearer_of(request, connection_params)
    if bearer is not None and settings.jwt is not None:
        from rail_async_tasks.auth.jwt import expiry_of

        return Credential(is_stored, expires_at=expiry_of(bearer) + settings.jwt.leeway)
    return Credential(is_stored, _session_key(user, request))


def _session_key(user: Any, request: Any) -> str | None:
    """Returns the key of the session that names this user, if that is how they came."""
    session = getattr(request, "session", None) or scope_of(request).get("session")
    # Loaded by the middleware; a session that is not loaded has not named the user.
    loaded = getattr(session, "_session_cache", None)
    if not loaded or loaded.get(SESSION_KEY) != str(user.pk):
        return None
    key: str | None = getattr(session, "session_key", None)
    return key
