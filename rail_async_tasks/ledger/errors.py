"""Separates errors of one row, which its author must mend, from errors of the database."""

from __future__ import annotations

from django.db import DatabaseError, DataError, IntegrityError, InterfaceError


def is_of_row(error: BaseException) -> bool:
    """Returns whether the value to be written is wrong, and not the database.

    Such a write fails again however often it is tried.
    """
    if isinstance(error, DataError | IntegrityError):
        return True
    return not isinstance(error, DatabaseError | InterfaceError)
