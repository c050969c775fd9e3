"""Chooses the converter of a parameter or a field by its annotation.

Python's own types are read directly, the fields of Strawberry inputs through Strawberry, which
resolves `auto`, generics and lazy types. A type without a JSON form raises `Unsupported`, whose
text names an alternative; a name that is not defined yet raises `Pending`.
"""

from __future__ import annotations

import collections.abc
import dataclasses
import inspect
from collections.abc import Mapping
from enum import Enum, Flag
from types import NoneType, UnionType
from typing import Any, Final, Literal, Union, get_args, get_origin

from django.db.models import Model
from django.http import HttpRequest
from strawberry import UNSET
from strawberry.types.base import (
    StrawberryList,
    StrawberryMaybe,
    StrawberryOptional,
    get_object_definition,
)
from strawberry.types.enum import StrawberryEnumDefinition
from strawberry.types.maybe import Maybe

from rail_async_tasks.codec import converters, scalars
from rail_async_tasks.codec.converters import Converter, Field
from rail_async_tasks.codec.field_annotations import field_annotations
from rail_async_tasks.codec.references import Pending, Unsupported, unwrap

SUPPORTED: Final = (
    "supported are str, int, float, bool, ID, UUID, datetime, date, time, timedelta, Decimal, "
    "enums, Literal, Optional, list, tuple[X, ...], dict[str, X], JSON, Any, dataclasses and "
    "Strawberry inputs"
)

_UNSET_TYPES: Final = (NoneType, type(UNSET), type[type(UNSET)])
_LISTS: Final = (list, collections.abc.Sequence, collections.abc.MutableSequence)
_DICTS: Final = (dict, collections.abc.Mapping, collections.abc.MutableMapping)
_INSTEAD: Final[Mapping[object, str]] = {
    set: "a set has no order; use list[...]",
    frozenset: "a frozenset has no order; use list[...]",
    bytes: "store the data first and pass where it is, or pass text",
    bytearray: "store the data first and pass where it is, or pass text",
    complex: "pass two floats",
    collections.abc.Iterable: "use list[...]",
    collections.abc.Iterator: "use list[...]",
    collections.abc.Callable: "a function cannot be stored; pass a name and look it up",
}


class Builder:
    """Makes the converters of one signature.

    `may_import` allows the import of the module of a `strawberry.lazy` type: not while the task's
    own module is being imported, for which the reference was made lazy.
    """

    def __init__(self, *, may_import: bool) -> None:
        self.may_import = may_import
        self.recursive = False
        self._structures: dict[type, Converter] = {}
        self._open: set[type] = set()

    def field(
        self, name: str, annotation: Any, namespace: Mapping[str, Any], *, has_default: bool
    ) -> Field:
        """Returns the converter of a parameter or field, the only places that allow `Maybe`."""
        annotation = unwrap(annotation, namespace, may_import=self.may_import)
        if isinstance(annotation, StrawberryMaybe):
            inner = annotation.of_type
        elif get_origin(annotation) is Maybe:
            (inner,) = get_args(annotation)
        else:
            to_json, from_json = self.converter(annotation, namespace)
            return Field(name, to_json, from_json, UNSET, not has_default, False)
        to_json, from_json = converters.maybe(self.converter(inner, namespace))
        return Field(name, to_json, from_json, None, False, not has_default)

    def converter(self, annotation: Any, namespace: Mapping[str, Any]) -> Converter:
        annotation = unwrap(annotation, namespace, may_import=self.may_import)
        if (scalar := scalars.scalar(annotation)) is not None:
            return scalar
        if isinstance(annotation, StrawberryOptional) and not isinstance(
            annotation, StrawberryMaybe
        ):
            return converters.optional(self.converter(annotation.of_type, namespace))
        if isinstance(annotation, StrawberryList):
            return converters.sequence(self.converter(annotation.of_type, namespace), list)
        if isinstance(annotation, StrawberryEnumDefinition):
            annotation = annotation.wrapped_cls
        if isinstance(annotation, type) and issubclass(annotation, Enum):
            if issubclass(annotation, Flag):
                raise Unsupported(
                    f"{annotation.__name__} is a Flag, whose members combine; use int"
                )
            return scalars.enumeration(annotation)
        origin = get_origin(annotation)
        if origin is not None or any(annotation is bare for bare in (*_LISTS, *_DICTS, tuple)):
            return self._generic(annotation, origin or annotation, namespace)
        if isinstance(annotation, type) and dataclasses.is_dataclass(annotation):
            return self._structure(annotation)
        raise Unsupported(_why_not(annotation))

    def _generic(self, annotation: Any, origin: Any, namespace: Mapping[str, Any]) -> Converter:
        arguments = get_args(annotation)
        if origin in (Union, UnionType):
            return self._union(annotation, arguments, namespace)
        if origin is Literal:
            if not all(type(choice) in (str, int, bool, NoneType) for choice in arguments):
                raise Unsupported(
                    f"{_shown(annotation)} has a choice that is not a string, int, bool or None"
                )
            return scalars.literal(arguments)
        if origin in _LISTS:
            return converters.sequence(
                self.converter(arguments[0] if arguments else Any, namespace), list
            )
        if origin is tuple:
            if arguments and (len(arguments) != 2 or arguments[1] is not Ellipsis):
                raise Unsupported(
                    f"{_shown(annotation)} has items of their own types; use tuple[X, ...], "
                    "list[X] or a dataclass"
                )
            return converters.sequence(
                self.converter(arguments[0] if arguments else Any, namespace), tuple
            )
        if origin in _DICTS:
            key, item = arguments or (str, Any)
            if unwrap(key, namespace, may_import=self.may_import) is not str:
                raise Unsupported(
                    f"{_shown(annotation)} has keys of another type than str; use dict[str, X], or "
                    "a list of objects"
                )
            return converters.mapping(self.converter(item, namespace))
        if get_object_definition(origin) is not None:
            raise Unsupported(f"{_shown(annotation)} is generic; write the input out for its type")
        raise Unsupported(_why_not(annotation))

    def _union(
        self, annotation: Any, members: tuple[Any, ...], namespace: Mapping[str, Any]
    ) -> Converter:
        real = [member for member in members if member not in _UNSET_TYPES]
        if len(real) != 1:
            raise Unsupported(
                f"{_shown(annotation)} leaves open which type a JSON value stands for; only a "
                "union with None can be read back. Use one type, or JSON"
            )
        inner = self.converter(real[0], namespace)
        return converters.optional(inner) if NoneType in members else inner

    def _structure(self, cls: type) -> Converter:
        if cls in self._structures:
            self.recursive = self.recursive or cls in self._open
            return self._structures[cls]
        fields: list[Field] = []
        self._structures[cls] = structure = converters.structure(cls, fields)
        self._open.add(cls)
        try:
            fields.extend(self._fields(cls))
        except (Pending, Unsupported):
            # A later read of this type must fail in the same way, not find it half done.
            del self._structures[cls]
            raise
        finally:
            self._open.discard(cls)
        return structure

    def _fields(self, cls: type) -> list[Field]:
        annotations = field_annotations(cls)
        accepted = inspect.signature(cls).parameters
        for parameter in accepted.values():
            if parameter.name not in annotations and parameter.default is parameter.empty:
                raise Unsupported(
                    f"{cls.__name__} cannot be built again: its {parameter.name!r} is required but "
                    "not one of its public fields; give it a default"
                )
        fields = []
        for name, (annotation, namespace) in annotations.items():
            if name not in accepted:
                continue  # set by the class itself
            has_default = accepted[name].default is not inspect.Parameter.empty
            try:
                fields.append(self.field(name, annotation, namespace, has_default=has_default))
            except Unsupported as unsupported:
                raise Unsupported(f"field {cls.__name__}.{name}: {unsupported}") from None
            except Pending as pending:
                raise Pending(f"field {cls.__name__}.{name}: {pending}") from None
        return fields


def _shown(annotation: Any) -> str:
    if isinstance(annotation, type) and not get_args(annotation):
        return annotation.__name__
    return str(annotation).replace("typing.", "")


def _why_not(annotation: Any) -> str:
    origin = get_origin(annotation) or annotation
    if origin is Maybe or isinstance(annotation, StrawberryMaybe):
        return "Maybe may only be the type of a parameter or a field itself"
    try:
        instead = _INSTEAD.get(origin)
    except TypeError:
        instead = None
    if isinstance(origin, type):
        if issubclass(origin, Model):
            instead = "pass its primary key, and load it in the body"
        elif issubclass(origin, HttpRequest):
            instead = "info.context.user is its user; pass what else the body needs of it"
    return f"{_shown(annotation)} has no JSON form; {instead or SUPPORTED}"
