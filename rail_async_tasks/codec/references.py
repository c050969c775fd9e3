"""Resolves what stands for a type in an annotation: names in quotes, lazy types, aliases."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from importlib.util import resolve_name
from typing import Annotated, Any, ForwardRef, NewType, get_args, get_origin

from strawberry.types.arguments import StrawberryArgumentAnnotation
from strawberry.types.lazy_type import LazyType, StrawberryLazyReference
from strawberry.utils.typing import eval_type

from rail_async_tasks.codec.scalars import SCALARS


class Unsupported(Exception):
    """An annotation with no JSON form; the message says which, why, and what to write instead."""


class Pending(Exception):
    """A forward reference that cannot be resolved yet; the message says which."""


def unwrap(annotation: Any, namespace: Mapping[str, Any], *, may_import: bool) -> Any:
    """Return the type inside quotes, `Annotated`, `strawberry.lazy`, `NewType` and aliases.

    `may_import` allows the import of the module that a `strawberry.lazy` type names.

    Raises:
        Pending: nothing defines the name yet.
        Unsupported: the text is no type.
    """
    while True:
        if isinstance(annotation, ForwardRef):
            annotation = annotation.__forward_arg__
        if isinstance(annotation, str):
            annotation = _evaluate(annotation, namespace)
        elif isinstance(annotation, LazyType):
            annotation = _load(annotation, may_import=may_import)
        elif get_origin(annotation) is Annotated:
            annotation = _annotated(annotation)
        elif isinstance(annotation, NewType) and annotation not in SCALARS:
            annotation = annotation.__supertype__
        elif hasattr(annotation, "__value__") and not isinstance(annotation, type):
            annotation = annotation.__value__  # type X = ..., of Python 3.12
        else:
            return annotation


def _load(lazy: LazyType[Any, Any], *, may_import: bool) -> Any:
    module = resolve_name(lazy.module, lazy.package)
    if not may_import and lazy.type_name not in vars(sys.modules.get(module, object)):
        raise Pending(f"{lazy.type_name!r} of {module!r} is not defined yet")
    try:
        return lazy.resolve_type()
    except (ImportError, KeyError) as error:
        raise Pending(f"{lazy.type_name!r} cannot be loaded from {module!r}") from error


def _evaluate(text: str, namespace: Mapping[str, Any]) -> Any:
    try:
        # Strawberry's reading of strings knows `Annotated["In", strawberry.lazy("module")]`. It
        # adds names to the namespace, hence the copy.
        return eval_type(ForwardRef(text), dict(namespace))
    except NameError as error:
        raise Pending(f"{error}; import it where the annotation can see it") from error
    except AttributeError as error:
        raise Pending(str(error)) from error
    except (SyntaxError, TypeError) as error:
        raise Unsupported(f"{text!r} is not a type ({error})") from error


def _annotated(annotation: Any) -> Any:
    inner, *metadata = get_args(annotation)
    for item in metadata:
        if isinstance(item, StrawberryLazyReference) and isinstance(inner, ForwardRef):
            return item.resolve_forward_ref(inner)
        if isinstance(item, StrawberryArgumentAnnotation) and item.graphql_type is not None:
            return item.graphql_type
    return inner
