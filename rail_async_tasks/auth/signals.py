"""Signals of Django by which this process learns at once that a caller may have lost a right."""

from __future__ import annotations

from collections.abc import Collection
from functools import partial
from typing import Any

from django.apps import apps
from django.contrib.auth import get_user_model
from django.contrib.auth.signals import user_logged_out
from django.db import transaction
from django.db.models.signals import m2m_changed, post_delete, post_save

from rail_async_tasks.auth.watch import on_each_watch


def connect() -> None:
    """Connects the receivers. Called once, when the apps are ready.

    Each is connected to its sender alone: a receiver for all models would cost every model its
    fast deletes.
    """
    if not apps.is_installed("django.contrib.auth"):
        return
    from django.contrib.auth.models import Group

    user_logged_out.connect(_logged_out, dispatch_uid="rail_async_tasks.logged_out")
    user_model: Any = get_user_model()
    for signal in (post_save, post_delete):
        signal.connect(_user_changed, user_model, dispatch_uid="rail_async_tasks.user")
    post_delete.connect(_everyone_changed, Group, dispatch_uid="rail_async_tasks.group")
    for model, name in (
        (user_model, "groups"),
        (user_model, "user_permissions"),
        (Group, "permissions"),
    ):
        through = getattr(getattr(model, name, None), "through", None)
        if through is not None:  # a user model may have neither
            m2m_changed.connect(_rights_changed, through, dispatch_uid=f"rail_async_tasks.{name}")


def _logged_out(sender: Any, request: Any, **_: Any) -> None:
    session_key = getattr(getattr(request, "session", None), "session_key", None)
    if session_key is not None:
        on_each_watch(lambda watch: watch.end_session(session_key))


def _user_changed(sender: Any, instance: Any, using: str, **_: Any) -> None:
    _check({str(instance.pk)}, using)


def _everyone_changed(sender: Any, using: str, **_: Any) -> None:
    _check(None, using)


def _rights_changed(
    sender: Any, instance: Any, action: str, reverse: bool, pk_set: Any, using: str, **_: Any
) -> None:
    if action.startswith("pre_"):
        return
    if isinstance(instance, get_user_model()):
        _check({str(instance.pk)}, using)
    else:  # a group's members, or its permissions
        _check(None, using)


def _check(user_ids: Collection[str] | None, using: str) -> None:
    """Has the streams of these users checked once the change is committed.

    Django does not know when a transaction is committed that was begun by `set_autocommit(False)`,
    and refuses to be asked: the next regular check sees that change.
    """
    connection = transaction.get_connection(using)
    if connection.in_atomic_block or connection.get_autocommit():
        hurry = partial(on_each_watch, lambda watch: watch.hurry(user_ids))
        transaction.on_commit(hurry, using=using, robust=True)
