"""The names of our fields and types in a schema: `schema_settings["rename"]`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from django.apps import apps
from strawberry.annotation import StrawberryAnnotation

from rail_async_tasks.conf import get_schema_settings
from rail_async_tasks.errors import ConfigurationError


def new_names() -> Mapping[str, str | None]:
    """Returns the new names by the old ones; None for a field that is left out.

    None are renamed where the settings are wrong, which is for the checks to report. Nor before
    models are loaded: a settings module may import tasks, and has no settings then.
    """
    if not apps.models_ready:
        return {}
    try:
        return get_schema_settings().rename
    except ConfigurationError:
        return {}


def type_name(name: str) -> str:
    """Returns the name of a type of ours in a schema."""
    return new_names().get(name) or name


class NamedType(StrawberryAnnotation):
    """The type of a field: one of ours, as it is named when a schema is built.

    Fields are made when modules are imported, some of them before the settings are final.
    """

    __slots__ = ("_annotation",)

    def __init__(self, annotation: Callable[[], Any]) -> None:
        super().__init__(Any)
        self._annotation = annotation

    @property  # type: ignore[misc]
    def annotation(self) -> Any:
        """Returns itself: dataclasses write what stands here into the field as its annotation."""
        return self

    @property
    def _evaluated_annotation(self) -> Any:
        return self._annotation()

    def evaluate(self) -> Any:
        """Returns the annotation, under the name that holds now."""
        return self._annotation()

    def resolve(self, **keywords: Any) -> Any:
        """Returns Strawberry's type of the annotation, under the name that holds now."""
        return StrawberryAnnotation(self._annotation()).resolve(**keywords)
