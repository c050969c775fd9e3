"""Withdraws rights in a process of its own, `python -m tests.rest.former`.

Its input has a line for each, `CAUSE USER SESSION`; its output says `done` to each.
Each cause does by Django's ordinary calls what an administrator's page or another worker would do.
"""

from __future__ import annotations

import sys

import django

CAUSES = {
    "deactivated": 4401,
    "deleted": 4401,
    "password_changed": 4401,
    "logged_out": 4401,
    "right_withdrawn": 4403,
    "left_the_group": 4403,
    "group_lost_the_right": 4403,
    "no_longer_staff": 4403,
    "no_longer_superuser": 4403,
}


def withdraw(cause: str, user_id: str, session_key: str) -> None:
    from django.contrib.auth.models import Group, User
    from django.contrib.sessions.backends.db import SessionStore

    user = User.objects.get(pk=user_id)
    match cause:
        case "deactivated":
            user.is_active = False
            user.save()
        case "deleted":
            user.delete()
        case "password_changed":
            user.set_password("another one")
            user.save()
        case "logged_out":
            SessionStore(session_key).flush()
        case "right_withdrawn":
            user.user_permissions.clear()
        case "left_the_group":
            user.groups.clear()
        case "group_lost_the_right":
            Group.objects.get().permissions.clear()
        case "no_longer_staff":
            user.is_staff = False
            user.save()
        case "no_longer_superuser":
            user.is_superuser = False
            user.save()
        case _:
            raise ValueError(cause)


if __name__ == "__main__":
    django.setup()
    for line in sys.stdin:
        withdraw(*line.split())
        sys.stdout.write("done\n")
        sys.stdout.flush()
