"""Reads whether callers still have what they were let in by: one query for all of them.

Synchronous: it queries. What is decided here is what a new request would be answered, so a stream
or a socket lives no longer than the right to open it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from itertools import islice
from typing import Any, Final

from django.conf import settings
from django.contrib.auth import get_user_model
from django.core.exceptions import SynchronousOnlyOperation
from django.db import InterfaceError, OperationalError
from django.db.models import Manager
from django.utils import timezone
from django.utils.crypto import constant_time_compare

from rail_async_tasks.access import Viewer
from rail_async_tasks.own_views import close_old_outside_transactions
from rail_async_tasks.safe_logging import get_logger

logger = get_logger("rail_async_tasks.auth")

# Users of one query. Databases limit the parameters of a statement.
_AT_ONCE: Final = 500

_BACKENDS: Final = "django.contrib.auth.backends."  # Django's own


@dataclass(frozen=True, slots=True)
class Claim:
    """What one caller was let in by. `session_key` is None for other credentials."""

    user_id: str
    auth_hash: str | None
    session_key: str | None = None
    was_active: bool = True

    @classmethod
    def of(cls, user: Any, session_key: str | None) -> Claim:
        """Returns the claim of a user as loaded when they were let in."""
        auth_hash = None
        with suppress(SynchronousOnlyOperation):  # a password that was not loaded
            auth_hash = _auth_hash(user)
        return cls(str(user.pk), auth_hash, session_key, bool(getattr(user, "is_active", True)))


@dataclass(frozen=True, slots=True)
class Standing:
    """What a claim is worth now. `user` is None where its caller is signed out."""

    user: Any | None
    viewer: Viewer


_NONE: Final = Standing(None, Viewer())


def users_are_in_one_place() -> bool:
    """Returns whether a primary key names one user, whatever a connection's schema is.

    With django-tenants each tenant may have users of its own. Which tenant an open stream is of its
    connection does not know any more, so no such user can be looked up again.
    """
    if "django_tenants" not in settings.INSTALLED_APPS:
        return True
    shared: Collection[str] = getattr(settings, "SHARED_APPS", ())
    return get_user_model()._meta.app_config.name in shared


def may_read_the_context() -> bool:
    """Returns whether code of the project's takes part, which may depend on a caller's context."""
    from django.contrib.auth.models import BaseUserManager, UserManager

    if not all(it.startswith(_BACKENDS) for it in settings.AUTHENTICATION_BACKENDS):
        return True
    manager = get_user_model()._default_manager
    return type(manager) not in (Manager, BaseUserManager, UserManager)


def standings(claims: Sequence[Claim]) -> list[Standing]:
    """Returns the standing of each claim. Reconnects once to a database that was restarted."""
    try:
        return _read(claims)
    except (OperationalError, InterfaceError):
        close_old_outside_transactions()
        return _read(claims)


def _read(claims: Sequence[Claim]) -> list[Standing]:
    users = dict(_users({claim.user_id for claim in claims}))
    keys = {claim.session_key for claim in claims if claim.session_key is not None}
    live = _live_sessions(keys) if keys else set()
    found: dict[str, Standing] = {}

    def standing(claim: Claim) -> Standing:
        user = users.get(claim.user_id)
        if user is None or not _is_unchanged(user, claim):
            return _NONE
        if claim.session_key is not None and claim.session_key not in live:
            return _NONE
        if claim.user_id not in found:  # the rights of staff are a query more
            found[claim.user_id] = _with_rights(user)
        return found[claim.user_id]

    return [standing(claim) for claim in claims]


def _with_rights(user: Any) -> Standing:
    """Returns the user with their rights; signed out where the project's code can't tell them."""
    try:
        return Standing(user, Viewer.for_user(user))
    except (OperationalError, InterfaceError):
        raise
    except Exception:  # a permission backend: the other users' checks go on
        logger.exception("The permissions of an open stream's user cannot be read.")
        return _NONE


def _users(user_ids: Collection[str]) -> Iterator[tuple[str, Any]]:
    """Yields the users that are in the database, by id."""
    manager, rest = get_user_model()._default_manager, iter(user_ids)
    while some := list(islice(rest, _AT_ONCE)):
        for user in manager.filter(pk__in=some):
            yield str(user.pk), user


def _is_unchanged(user: Any, claim: Claim) -> bool:
    """Returns whether the user is active, with the password that they were let in with."""
    # An `authenticator` may let inactive users in.
    if claim.was_active and not getattr(user, "is_active", True):
        return False
    now = _auth_hash(user)
    if now is None or claim.auth_hash is None:
        return True
    return bool(constant_time_compare(now, claim.auth_hash))


def _auth_hash(user: Any) -> str | None:
    """Returns Django's digest of the password, by which it ends sessions; None without one."""
    digest = getattr(user, "get_session_auth_hash", None)
    return None if digest is None else str(digest())


def _live_sessions(keys: Collection[str]) -> Collection[str]:
    """Returns the sessions that exist and have not expired. Of cookies there is nothing to ask."""
    from django.contrib.sessions.backends import db, signed_cookies

    store: Any = import_module(settings.SESSION_ENGINE).SessionStore
    if issubclass(store, signed_cookies.SessionStore):
        return keys
    if issubclass(store, db.SessionStore):
        live = store.get_model_class()._default_manager.filter(
            session_key__in=keys, expire_date__gt=timezone.now()
        )
        return set(live.values_list("session_key", flat=True))
    return {key for key in keys if store().exists(key)}
