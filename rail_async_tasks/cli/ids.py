"""Ids as an operator types them: whole, or as much of the beginning as only one task has."""

from __future__ import annotations

import re
from typing import Final
from uuid import UUID

from rail_async_tasks.cli.exits import Stop
from rail_async_tasks.cli.filters import database
from rail_async_tasks.cli.words import one_line
from rail_async_tasks.ids import parse_id
from rail_async_tasks.ledger.rows import unexpired
from rail_async_tasks.models import TaskExecution
from rail_async_tasks.text import counted

# Digits of an abbreviation. The first eight are the time of creation, to the minute.
LEAST_DIGITS: Final = 8
_ABBREVIATION: Final = re.compile(r"[0-9a-f-]+", re.IGNORECASE)
# Tasks that the message about an ambiguous abbreviation names.
NAMED: Final = 5


def find_id(text: str) -> UUID:
    """Returns the id of the task that `text` names.

    Raises:
        Stop: no task has such an id, or several have.
    """
    whole = parse_id(text)
    alias = database()
    rows = TaskExecution.objects.using(alias).filter(unexpired(alias)).order_by("id")
    if whole is not None:
        if not rows.filter(id=whole).exists():
            raise Stop(f"There is no task {whole}.")
        return whole
    digits = text.replace("-", "").lower()
    if _ABBREVIATION.fullmatch(text) is None or not LEAST_DIGITS <= len(digits) <= 32:
        raise Stop(
            f"{one_line(text)!r} is no id of a task: write it whole, or the first"
            f" {LEAST_DIGITS} digits or more."
        )
    first, last = UUID(digits.ljust(32, "0")), UUID(digits.ljust(32, "f"))
    between = rows.filter(id__gte=first, id__lte=last).values_list("id", flat=True)
    found = list(between[: NAMED + 1])
    if not found:
        raise Stop(f"There is no task whose id begins with {text}.")
    if len(found) > 1:
        names = ", ".join(map(str, found[:NAMED])) + (", …" if len(found) > NAMED else "")
        raise Stop(
            f"{counted(len(found), 'task')} or more begin with {text}: {names}. Write more of it."
        )
    return found[0]
