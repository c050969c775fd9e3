"""The permission classes of the fields of tasks' mutations."""

from __future__ import annotations

from strawberry.permission import PermissionExtension
from strawberry.types.field import StrawberryField

from rail_async_tasks.auth.permissions import ThreadedPermission


def ask_in_threads(field: StrawberryField) -> None:
    """Make the permissions of a new field `ThreadedPermission`s."""
    for extension in field.extensions:
        if isinstance(extension, PermissionExtension):
            extension.permissions = [ThreadedPermission(it) for it in extension.permissions]
