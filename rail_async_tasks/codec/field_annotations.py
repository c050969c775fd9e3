"""The annotations of the fields of dataclasses and of Strawberry inputs."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Mapping
from typing import Any

from strawberry.types.base import StrawberryObjectDefinition, get_object_definition
from strawberry.types.field import UNRESOLVED

from rail_async_tasks.codec.references import Pending, Unsupported

Annotations = dict[str, tuple[Any, Mapping[str, Any]]]


def field_annotations(cls: type) -> Annotations:
    """Return field names with annotations, each with the namespace that it is written in.

    Raises:
        Pending: Strawberry does not know the type of a field yet.
        Unsupported: a JSON value cannot be turned into the class.
    """
    definition = get_object_definition(cls)
    return _of_dataclass(cls) if definition is None else _of_input(cls, definition)


def _of_dataclass(cls: type) -> Annotations:
    """Return the annotations of a dataclass, with the namespaces of their modules."""
    homes: dict[str, Mapping[str, Any]] = {}
    for base in reversed(cls.__mro__):
        module = vars(sys.modules.get(base.__module__, object))
        homes.update(dict.fromkeys(vars(base).get("__annotations__", ()), module))
    return {
        field.name: (field.type, homes.get(field.name, {})) for field in dataclasses.fields(cls)
    }


def _of_input(cls: type, definition: StrawberryObjectDefinition) -> Annotations:
    if not definition.is_input:
        raise Unsupported(f"{cls.__name__} is an output type; use a @strawberry.input")
    if definition.origin is not cls:
        raise Unsupported(f"{cls.__name__} inherits from an input; decorate it as one itself")
    if definition.from_input is not None or not dataclasses.is_dataclass(cls):
        raise Unsupported(f"{cls.__name__} builds its own values; use a plain @strawberry.input")
    annotations: Annotations = {}
    for field in definition.fields:
        resolved = field.resolve_type(type_definition=definition)
        if resolved is UNRESOLVED:
            raise Pending(f"the type of {cls.__name__}.{field.python_name} is not defined")
        annotations[field.python_name] = (resolved, {})
    return annotations
