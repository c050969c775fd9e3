"""The form "retry with changed arguments": fields from a signature, and back to values. Pure.

Each field posts a mode and a text: `mode-<name>` is `value`, `default` (the argument is left out),
`null` or `empty` (an empty text), and `value-<name>` the text of the mode `value`. It works without
script. What was posted goes through the task's own codec, so a form accepts what a start accepts.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import isfinite
from typing import Any, Final

from rail_async_tasks.dashboard.shapes import Shape, shapes_of
from rail_async_tasks.declaration.definition import TaskDefinition
from rail_async_tasks.redaction import REDACTED

VALUE, DEFAULT, NULL, EMPTY = "value", "default", "null", "empty"

# A longer or broken text gets an input of several lines.
ONE_LINE: Final = 80
# Digits that Python reads as an integer.
MOST_DIGITS: Final = 4000
_INTEGER: Final = re.compile(r"[+-]?[0-9]+", re.ASCII)


@dataclass(frozen=True, slots=True)
class FormField:
    """One argument's input. `modes` are the posted modes that it offers, with their labels."""

    shape: Shape
    mode: str
    text: str = ""
    error: str = ""

    @property
    def name(self) -> str:
        return self.shape.name

    @property
    def modes(self) -> list[tuple[str, str]]:
        """Returns the modes that make sense for the argument."""
        shape = self.shape
        modes = [(VALUE, "Value")]
        if shape.is_text:
            modes.append((EMPTY, "Empty text"))
        if not shape.required:
            modes.append((DEFAULT, f"Default: {shape.default}"))
        if shape.nullable:
            modes.append((NULL, "null"))
        return modes

    @property
    def is_long(self) -> bool:
        """Returns whether the input has several lines."""
        if self.shape.kind == "json":
            return True
        return self.shape.kind == "text" and (len(self.text) > ONE_LINE or "\n" in self.text)

    @property
    def rows(self) -> int:
        """Returns the lines of a long input."""
        return min(max(self.text.count("\n") + 1, 3), 16)


@dataclass(frozen=True, slots=True)
class Posted:
    """A posted form: Python values to start with, or fields of which some have an error."""

    fields: Sequence[FormField]
    values: dict[str, Any] = field(default_factory=dict)

    @property
    def is_valid(self) -> bool:
        return not any(it.error for it in self.fields)


def form_of(definition: TaskDefinition, shown: Mapping[str, Any]) -> list[FormField]:
    """Returns the fields with a task's arguments filled in.

    `shown` are the arguments as JSON, sensitive ones redacted: those must be entered again.
    """
    return [_filled(shape, shown) for shape in shapes_of(definition)]


def read_form(definition: TaskDefinition, posted: Mapping[str, str]) -> Posted:
    """Returns the values of a posted form, or its fields with a message beside each mistake.

    A sensitive argument's text is not shown again.
    """
    fields = [
        FormField(
            shape,
            posted.get(f"mode-{shape.name}", VALUE),
            posted.get(f"value-{shape.name}", "").replace("\r\n", "\n"),
        )
        for shape in shapes_of(definition)
    ]
    found: dict[str, Any] = {}
    mistakes: dict[str, str] = {}
    for it in fields:
        try:
            if (value := _json_of(it)) is not _LEFT_OUT:
                found[it.name] = value
        except ValueError as error:
            mistakes[it.name] = str(error)
    values, refused = definition.codec.decode_each(found)
    mistakes = {**refused, **mistakes}
    return Posted([_judged(it, mistakes.get(it.name, "")) for it in fields], values)


_LEFT_OUT: Final = object()


def _filled(shape: Shape, shown: Mapping[str, Any]) -> FormField:
    if shape.name not in shown:
        return FormField(shape, VALUE if shape.required else DEFAULT)
    value = shown[shape.name]
    if shape.sensitive or value == REDACTED:  # stored encrypted, though declared otherwise by now
        return FormField(shape, VALUE)
    if value is None and shape.nullable:
        return FormField(shape, NULL)
    if value == "" and shape.is_text:
        return FormField(shape, EMPTY)
    return FormField(shape, VALUE, _text_of(shape, value))


def _text_of(shape: Shape, value: Any) -> str:
    """Returns the text that stands for a JSON value in the argument's input."""
    if shape.kind in {"choice", "boolean"}:
        return json.dumps(value)
    if isinstance(value, str) and shape.kind != "json":
        return value
    return json.dumps(value, ensure_ascii=False, indent=2 if shape.kind == "json" else None)


def _judged(it: FormField, error: str) -> FormField:
    return replace(it, error=error, text="" if it.shape.sensitive else it.text)


def _json_of(it: FormField) -> Any:
    """Returns the JSON value of a field. Raises ValueError with the message for its place."""
    shape, text = it.shape, it.text
    if it.mode not in dict(it.modes):
        raise ValueError(f"has no mode {it.mode!r:.40}; choose one of the list")
    if it.mode == DEFAULT:
        return _LEFT_OUT
    if it.mode == NULL:
        return None
    if it.mode == EMPTY:
        return ""
    if not text.strip() and (not shape.is_text or not text):
        again = "; enter it again, it is sensitive and not shown" if shape.sensitive else ""
        hint = ', or choose "Empty text"' if shape.is_text and not again else ""
        raise ValueError(f"is required{again}{hint}")
    if shape.is_text:
        return text
    return _READERS.get(shape.kind, _line)(shape, text.strip())


def _line(shape: Shape, text: str) -> str:
    return text


def _integer(shape: Shape, text: str) -> int:
    if _INTEGER.fullmatch(text) is None or len(text) > MOST_DIGITS:
        raise ValueError(f"must be a whole number such as {shape.example}")
    return int(text)


def _number(shape: Shape, text: str) -> float:
    if _INTEGER.fullmatch(text) is not None and len(text) < MOST_DIGITS:
        return int(text)
    try:
        number = float(text)
    except ValueError:
        number = float("nan")
    if not isfinite(number):
        raise ValueError(f"must be a number such as {shape.example}")
    return number


def _choice(shape: Shape, text: str) -> Any:
    if text not in dict(shape.choices):
        raise ValueError(f"must be one of {', '.join(label for _, label in shape.choices)}")
    return json.loads(text)


def _json(shape: Shape, text: str) -> Any:
    try:
        return json.loads(text, parse_constant=_refuse_constant)
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise ValueError(f"is not JSON: {error.msg} at {where}") from None
    except RecursionError:
        raise ValueError("is not JSON: it is nested too deeply") from None


def _refuse_constant(name: str) -> None:
    raise ValueError(f"is not JSON: {name} is no number of JSON")


_READERS: Final[Mapping[str, Any]] = {
    "integer": _integer,
    "number": _number,
    "choice": _choice,
    "boolean": _choice,
    "json": _json,
}
