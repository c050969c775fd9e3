"""What a form asks for each argument of a task: the kind of input, choices, defaults. Pure.

A shape describes the JSON of one argument as the codec reads it: an enum by its members' names, a
date as text, lists and input types as JSON.
"""

from __future__ import annotations

import dataclasses
import inspect
import json
import re
import uuid
from collections.abc import Mapping
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from types import NoneType, UnionType
from typing import Any, Final, Literal, Union, get_args, get_origin

from strawberry import ID, UNSET
from strawberry.relay import GlobalID
from strawberry.types.base import StrawberryMaybe, StrawberryOptional
from strawberry.types.enum import StrawberryEnumDefinition
from strawberry.types.maybe import Maybe

from rail_async_tasks.codec.arguments import MISSING, Parameter
from rail_async_tasks.codec.references import unwrap
from rail_async_tasks.declaration.definition import TaskDefinition

# Characters of a default or a type's name that a form shows.
SHOWN: Final = 120

# Types with one line of text, and the kind of their input.
_KINDS: Final[Mapping[object, str]] = {
    str: "text",
    ID: "text",
    int: "integer",
    float: "number",
    bool: "boolean",
    Decimal: "decimal",
    uuid.UUID: "uuid",
    datetime: "datetime",
    date: "date",
    time: "time",
    timedelta: "duration",
    GlobalID: "line",
}

_EXAMPLES: Final[Mapping[str, str]] = {
    "integer": "42",
    "number": "1.5",
    "decimal": "19.99",
    "uuid": "123e4567-e89b-12d3-a456-426614174000",
    "datetime": "2026-01-16T12:00:00+00:00",
    "date": "2026-01-16",
    "time": "12:30:00",
    "duration": "PT1H30M",
}

# The modules before a type's name.
_MODULES: Final = re.compile(r"\b(?:\w+\.)+(?=\w)")

# The types of `strawberry.UNSET` in a union, and None's.
_ABSENT: Final = (NoneType, type(UNSET), type[type(UNSET)])


@dataclasses.dataclass(frozen=True, slots=True)
class Shape:
    """The input of one argument.

    Attributes:
        kind: `text`, `line`, `integer`, `number`, `decimal`, `boolean`, `uuid`, `date`, `time`,
            `datetime`, `duration`, `choice` or `json`.
        choices: the JSON text and the label of each, where the kind is `choice` or `boolean`.
        nullable: whether null is a value.
        default: the default as Python writes it; None where the argument is required.
    """

    name: str
    kind: str
    type_name: str
    choices: tuple[tuple[str, str], ...] = ()
    nullable: bool = False
    required: bool = True
    default: str | None = None
    sensitive: bool = False

    @property
    def example(self) -> str:
        """Returns a value that shows the format; empty where none is needed."""
        return _EXAMPLES.get(self.kind, "")

    @property
    def is_text(self) -> bool:
        """Returns whether an empty text is a value."""
        return self.kind == "text"


def shapes_of(definition: TaskDefinition) -> list[Shape]:
    """Returns the shapes of a task's arguments, in the order of its signature."""
    definition.codec.resolve()
    namespace = inspect.unwrap(definition.function).__globals__
    sensitive = definition.options.sensitive
    return [
        shape_of(parameter, namespace, sensitive=parameter.name in sensitive)
        for parameter in definition.codec.parameters
    ]


def shape_of(parameter: Parameter, namespace: Mapping[str, Any], *, sensitive: bool) -> Shape:
    """Returns the shape of one argument."""
    annotation, nullable = _inner(parameter.annotation, namespace)
    kind, choices = _kind(annotation)
    return Shape(
        name=parameter.name,
        kind=kind,
        type_name=_cut(_name(annotation) + (" or null" if nullable else "")),
        choices=choices,
        nullable=nullable,
        required=parameter.required,
        default=_default(parameter, sensitive=sensitive),
        sensitive=sensitive,
    )


def _inner(annotation: Any, namespace: Mapping[str, Any]) -> tuple[Any, bool]:
    """Returns the type inside Optional, Maybe and Annotated, and whether None is a value."""
    nullable = False
    while True:
        annotation = unwrap(annotation, namespace, may_import=True)
        if isinstance(annotation, StrawberryMaybe) or get_origin(annotation) is Maybe:
            annotation = _of_type(annotation)
        elif isinstance(annotation, StrawberryOptional):
            annotation, nullable = annotation.of_type, True
        elif get_origin(annotation) in (Union, UnionType):
            members = get_args(annotation)
            nullable = nullable or NoneType in members
            annotation = next(it for it in members if it not in _ABSENT)
        else:
            return annotation, nullable


def _of_type(annotation: Any) -> Any:
    if isinstance(annotation, StrawberryMaybe):
        return annotation.of_type
    return get_args(annotation)[0]


def _kind(annotation: Any) -> tuple[str, tuple[tuple[str, str], ...]]:
    if isinstance(annotation, StrawberryEnumDefinition):
        annotation = annotation.wrapped_cls
    if isinstance(annotation, type) and issubclass(annotation, Enum):
        return "choice", tuple((json.dumps(it), it) for it in annotation.__members__)
    if get_origin(annotation) is Literal:
        choices = get_args(annotation)
        return "choice", tuple((json.dumps(it), _label(it)) for it in choices)
    try:
        kind = _KINDS.get(annotation, "json")
    except TypeError:  # not hashable
        kind = "json"
    if kind == "boolean":
        return kind, (("true", "true"), ("false", "false"))
    return kind, ()


def _label(choice: object) -> str:
    return choice if isinstance(choice, str) and choice else json.dumps(choice)


def _name(annotation: Any) -> str:
    if isinstance(annotation, StrawberryEnumDefinition):
        annotation = annotation.wrapped_cls
    if isinstance(annotation, type) and not get_args(annotation):
        return annotation.__name__
    return _MODULES.sub("", str(annotation))


def _default(parameter: Parameter, *, sensitive: bool) -> str | None:
    if parameter.required:
        return None
    if parameter.default is MISSING or parameter.default is UNSET:
        return "left out"
    if sensitive:
        return "the default"
    if isinstance(parameter.default, Enum):
        return parameter.default.name
    return _cut(repr(parameter.default))


def _cut(text: str) -> str:
    return text if len(text) <= SHOWN else f"{text[: SHOWN - 1]}…"
