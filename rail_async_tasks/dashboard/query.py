"""Parses the filter: `state:failed queue:reports age:<1h name:"my task" some text`. Pure.

Words without a qualifier must all occur in a task's texts. Of one qualifier several values may be
given, by commas or by repeating it: a task must have one of them.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final
from uuid import UUID

from rail_async_tasks.durations import parse_duration
from rail_async_tasks.ids import parse_id
from rail_async_tasks.states import Status
from rail_async_tasks.text import is_storable

# Characters. A longer filter is a mistake: no column holds such a text.
LONGEST: Final = 1000
# Each row is compared with each of them.
MOST_TEXTS: Final = 20

_TOKEN: Final = re.compile(r'(?:[a-z_]+:)?(?:"[^"]*"|[^\s"]+)+', re.IGNORECASE)
_QUALIFIED: Final = re.compile(r"([a-z_]+):(.*)", re.IGNORECASE | re.DOTALL)
_HEX: Final = re.compile(r"[0-9a-f-]{4,36}", re.IGNORECASE)
_UUID_DIGITS: Final = 32


class WrongQuery(ValueError):
    """A filter that cannot be understood. Its text names the part and the remedy."""


@dataclass(frozen=True, slots=True)
class Span:
    """Ids from `first` to `last`, both included: a range of ids with the same first digits."""

    first: UUID
    last: UUID


@dataclass(slots=True)
class Query:
    """A filter. Empty tuples and None filter nothing.

    Attributes:
        names: parts of names; case does not matter.
        errors: exception classes or error codes, whole.
        places: where errors came from, as the page of errors names them; `NO_PLACE`: none known.
        ids: ranges of task ids, by the digits given.
        younger, older: seconds since a task was created: less than, at least.
        words: texts; a task must have all of them.
    """

    states: tuple[str, ...] = ()
    queues: tuple[str, ...] = ()
    owners: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    errors: tuple[str, ...] = ()
    places: tuple[str, ...] = ()
    parents: tuple[UUID, ...] = ()
    ids: tuple[Span, ...] = ()
    younger: float | None = None
    older: float | None = None
    words: tuple[str, ...] = field(default=())

    def __bool__(self) -> bool:
        return self != Query()


def parse_query(text: str) -> Query:
    """Returns the filter that the text spells. Raises `WrongQuery`."""
    if len(text) > LONGEST:
        raise WrongQuery(f"The filter is longer than {LONGEST} characters; shorten it.")
    if not is_storable(text):
        raise WrongQuery("The filter contains a NUL or an unpaired surrogate; remove it.")
    if text.count('"') % 2:
        raise WrongQuery('The filter has a quote without its end: write name:"my task".')
    query = Query()
    for token in _TOKEN.findall(text):
        qualified = _QUALIFIED.fullmatch(token)
        if qualified is None:
            _add_word(query, token.replace('"', ""))
            continue
        key, value = qualified[1].lower(), qualified[2]
        add = _QUALIFIERS.get(key)
        if add is None:
            known = ", ".join(f"{it}:" for it in QUALIFIERS)
            raise WrongQuery(
                f"There is no qualifier {key}:. Known are {known}."
                f' To search for the text itself, put it in quotes: "{token}".'
            )
        for part in _values(key, value):
            add(query, part)
    if (texts := len(query.words) + len(query.names)) > MOST_TEXTS:
        raise WrongQuery(
            f"The filter looks for {texts} texts and parts of names; {MOST_TEXTS} at most."
        )
    return query


def _values(key: str, value: str) -> list[str]:
    """Returns the values of a qualifier; commas in quotes separate none."""
    parts = re.findall(r'(?:"[^"]*"|[^,"])+', value)
    values = [part.replace('"', "").strip() for part in parts]
    if not values or not all(values):
        raise WrongQuery(f"{key}: has no value. Write one without a space: {EXAMPLES[key]}.")
    return values


def _add_word(query: Query, word: str) -> None:
    if word and (task_id := parse_id(word)) is not None:
        query.ids += (Span(task_id, task_id),)
    elif word:
        query.words += (word,)


def _add_state(query: Query, value: str) -> None:
    state = value.lower()
    if state not in set(Status):
        raise WrongQuery(f"There is no state {value!r}. Known are {', '.join(Status)}.")
    query.states += (state,)


def _add_age(query: Query, value: str) -> None:
    sign, text = value[:1], value[1:].strip()
    if sign not in {"<", ">"}:
        raise WrongQuery(f"age:{value} has neither < nor >. Write age:<1h or age:>2d.")
    try:
        seconds = parse_duration(text)
    except ValueError as error:
        raise WrongQuery(f"age:{value}: {error}") from None
    if sign == "<":
        query.younger = seconds if query.younger is None else min(query.younger, seconds)
    else:
        query.older = seconds if query.older is None else max(query.older, seconds)


def _add_parent(query: Query, value: str) -> None:
    parent = parse_id(value)
    if parent is None:
        raise WrongQuery(f"parent:{value} is no task's id. Copy all of it from the task's page.")
    query.parents += (parent,)


def _add_id(query: Query, value: str) -> None:
    digits = value.replace("-", "").lower()
    if not _HEX.fullmatch(value) or len(digits) > _UUID_DIGITS:
        raise WrongQuery(f"id:{value} is no id, nor its beginning of at least 4 characters.")
    query.ids += (
        Span(UUID(digits.ljust(_UUID_DIGITS, "0")), UUID(digits.ljust(_UUID_DIGITS, "f"))),
    )


def _adds(name: str) -> Callable[[Query, str], None]:
    def add(query: Query, value: str) -> None:
        setattr(query, name, (*getattr(query, name), value))

    return add


_QUALIFIERS: Final[dict[str, Callable[[Query, str], None]]] = {
    "state": _add_state,
    "queue": _adds("queues"),
    "owner": _adds("owners"),
    "name": _adds("names"),
    "age": _add_age,
    "error": _adds("errors"),
    "place": _adds("places"),
    "parent": _add_parent,
    "id": _add_id,
}
QUALIFIERS: Final = tuple(_QUALIFIERS)
EXAMPLES: Final = {
    "state": "state:failed",
    "queue": "queue:default",
    "owner": "owner:7",
    "name": "name:import",
    "age": "age:<1h",
    "error": "error:KeyError",
    "place": 'place:"shop/tasks.py:42 in import_rows"',
    "parent": "parent:01890a5d-ac96-774b-bcce-b302099a8057",
    "id": "id:01890a5d",
}
