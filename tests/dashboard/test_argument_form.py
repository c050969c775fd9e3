"""The form "retry with changed arguments": from a signature, and through the task's codec."""

from __future__ import annotations

from typing import Any

import pytest

from rail_async_tasks.dashboard.argument_form import form_of, read_form
from tests.projects.forms.tasks import Line, Paper, every_kind, maybe, secret

STORED: dict[str, Any] = {
    "title": "A <b>", "copies": 2, "ratio": 1.5, "price": "19.99",
    "key": "123e4567-e89b-12d3-a456-426614174000", "at": "2026-01-16T12:00:00+00:00",
    "day": "2026-01-16", "pause": "PT90S", "paper": "LETTER", "mode": 3, "draft": False,
    "lines": [{"sku": "x", "count": 2}], "extra": {"a": [1]}, "note": None,
}  # fmt: skip


def posted(definition: Any, stored: dict[str, Any], **changes: str) -> dict[str, str]:
    """Returns what a browser posts for the form of these arguments, with changed inputs."""
    values: dict[str, str] = {}
    for field in form_of(definition, stored):
        values[f"mode-{field.name}"] = field.mode
        values[f"value-{field.name}"] = field.text
    for name, text in changes.items():
        key = name if name.startswith("mode_") else f"value_{name}"
        values[key.replace("_", "-", 1)] = text
        if not name.startswith("mode_"):
            values[f"mode-{name}"] = "value"
    return values


def error(**changes: str) -> dict[str, str]:
    """Returns the messages of a form of `every_kind`, by argument."""
    form = read_form(every_kind.definition, posted(every_kind.definition, STORED, **changes))
    return {it.name: it.error for it in form.fields if it.error}


def test_what_is_stored_encrypted_is_to_be_entered_again() -> None:
    """Also where its argument is declared otherwise by now: else its stand-in would be started."""
    (amount, *_) = form_of(maybe.definition, {"name": "[redacted]"})
    assert (amount.name, amount.mode, amount.text) == ("name", "value", "")


def test_each_argument_gets_the_input_of_its_type() -> None:
    """Required ones have no default to choose; enums and literals list their choices."""
    fields = {it.name: it for it in form_of(every_kind.definition, STORED)}
    kinds = {name: it.shape.kind for name, it in fields.items()}
    assert kinds == {
        "title": "text", "copies": "integer", "ratio": "number", "price": "decimal",
        "key": "uuid", "at": "datetime", "day": "date", "pause": "duration", "paper": "choice",
        "mode": "choice", "draft": "boolean", "lines": "json", "extra": "json", "note": "text",
        "limit": "integer", "label": "text",
    }  # fmt: skip
    assert fields["paper"].shape.choices == (('"A4"', "A4"), ('"LETTER"', "LETTER"))
    assert [it[1] for it in fields["mode"].shape.choices] == ["fast", "slow", "3"]
    assert [it[0] for it in fields["copies"].modes] == ["value"]
    assert fields["limit"].modes == [
        ("value", "Value"),
        ("default", "Default: 7"),
        ("null", "null"),
    ]
    assert (fields["note"].mode, fields["limit"].mode) == ("null", "default")
    assert fields["lines"].is_long
    assert not fields["copies"].is_long


def test_an_unchanged_form_is_the_same_start() -> None:
    """The round trip through the codec gives the stored arguments again."""
    form = read_form(every_kind.definition, posted(every_kind.definition, STORED))
    assert form.is_valid
    assert form.values["paper"] is Paper.LETTER
    assert form.values["lines"] == [Line(sku="x", count=2)]
    encoded = every_kind.definition.encode(form.values)
    assert every_kind.definition.codec.decode(encoded) == form.values
    assert "limit" not in form.values


def test_changed_inputs_change_the_values() -> None:
    """A text keeps its spaces and line breaks; a null and a default can be chosen."""
    form = read_form(
        every_kind.definition,
        posted(
            every_kind.definition, STORED, title=" two\r\nlines ", copies=" 12 ", note="x",
            mode_label="empty", mode_limit="null", draft="true", mode='"fast"',
        ),
    )  # fmt: skip
    assert form.is_valid, [it.error for it in form.fields]
    found = form.values
    assert (found["title"], found["copies"], found["note"]) == (" two\nlines ", 12, "x")
    assert (found["label"], found["limit"], found["draft"], found["mode"]) == (
        "", None, True, "fast",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"copies": "two"}, "must be a whole number such as 42"),
        ({"copies": ""}, "is required"),
        ({"title": ""}, 'is required, or choose "Empty text"'),
        ({"title": "a\0b"}, "has a NUL character, which databases refuse"),
        ({"ratio": "NaN"}, "must be a number such as 1.5"),
        ({"price": "much"}, "is not a Decimal"),
        ({"key": "7"}, "is not a UUID"),
        ({"at": "yesterday"}, "is not a datetime"),
        ({"day": "2026-13-01"}, "is not a date"),
        ({"pause": "1h"}, "is not a timedelta"),
        ({"paper": '"A5"'}, "must be one of A4, LETTER"),
        ({"mode": "4"}, "must be one of fast, slow, 3"),
        ({"draft": "yes"}, "must be one of true, false"),
        ({"lines": "[{]"}, "is not JSON: Expecting property name enclosed in double quotes at"),
        ({"lines": '[{"sku": "x"}, {"sku": 4}]'}, "[1].sku: expected a str, got int"),
        ({"lines": '[{"sku": "x", "size": 4}]'}, "[0].size: Line has no such field"),
        ({"lines": "NaN"}, "is not JSON: NaN is no number of JSON"),
        ({"extra": "[" * 200 + "]" * 200}, "is nested more than 100 levels deep"),
        ({"mode_copies": "default"}, "has no mode 'default'; choose one of the list"),
        ({"mode_copies": "null"}, "has no mode 'null'; choose one of the list"),
    ],
)
def test_a_mistake_is_shown_beside_its_field(changes: dict[str, str], message: str) -> None:
    """Only that field has an error, and the message says what to write."""
    name = (
        next(iter(changes)).removeprefix("mode_")
        if "mode_copies" in changes
        else next(iter(changes))
    )
    found = error(**changes)
    assert list(found) == [name]
    assert message in found[name]


def test_several_mistakes_are_shown_at_once() -> None:
    """A form is not sent as often as it has mistakes."""
    assert set(error(copies="x", lines="{", day="?")) == {"copies", "lines", "day"}


def test_a_sensitive_argument_is_entered_again() -> None:
    """It is never filled in, and not sent back with a form that has a mistake."""
    shown = {"amount": 5, "card": "[redacted]"}
    fields = {it.name: it for it in form_of(secret.definition, shown)}
    assert (fields["card"].text, fields["card"].mode) == ("", "value")
    form = read_form(secret.definition, posted(secret.definition, shown))
    assert [it.error for it in form.fields] == [
        "", "is required; enter it again, it is sensitive and not shown", "",
    ]  # fmt: skip
    form = read_form(secret.definition, posted(secret.definition, shown, card="4111", amount="x"))
    assert "4111" not in repr(form.fields)
    form = read_form(secret.definition, posted(secret.definition, shown, card="4111"))
    assert form.values == {"amount": 5, "card": "4111"}


def test_an_argument_that_may_be_absent_can_be_left_out() -> None:
    """A `strawberry.Maybe` is not an optional one: its null is another value."""
    (name, *_) = form_of(maybe.definition, {})
    assert name.modes == [
        ("value", "Value"), ("empty", "Empty text"), ("default", "Default: left out"),
    ]  # fmt: skip
    form = read_form(maybe.definition, posted(maybe.definition, {}, name="x"))
    assert form.values["name"].value == "x"
    assert maybe.definition.encode(form.values) == b'{"name":"x"}'
